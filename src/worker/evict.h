/*
 * evict.h
 *		Getting background processes out of the way of statements that need a database.
 */
#ifndef ES_EVICT_H
#define ES_EVICT_H

#include "postgres.h"

extern void es_evict_init(void);

#endif							/* ES_EVICT_H */
