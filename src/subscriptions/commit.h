/*
 * commit.h
 *		A transaction that does nothing but fetch commits without waiting for the disk.
 */
#ifndef ES_COMMIT_H
#define ES_COMMIT_H

#include "postgres.h"

extern bool es_fetch_is_first(void);
extern void es_fetch_was_all(void);

#endif							/* ES_COMMIT_H */
