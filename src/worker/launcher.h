/*
 * launcher.h
 *		The process that keeps a scheduler running in each database with a log.
 */
#ifndef ES_LAUNCHER_H
#define ES_LAUNCHER_H

#include "postgres.h"

extern void es_launcher_init(void);

#endif							/* ES_LAUNCHER_H */
