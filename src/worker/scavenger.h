/*
 * scavenger.h
 *		What the scheduler removes from the log between its other duties.
 */
#ifndef ES_SCAVENGER_H
#define ES_SCAVENGER_H

#include "postgres.h"

extern long es_scavenger_run(Oid store, long sleep);

#endif							/* ES_SCAVENGER_H */
