/*
 * scavenger.h
 *		What the scheduler removes from the log between its other duties.
 */
#ifndef ES_SCAVENGER_H
#define ES_SCAVENGER_H

#include "log/database.h"

extern long es_scavenger_run(EsDatabase *db, long sleep);
extern void es_scavenger_note_change(void);
extern bool es_scavenger_is_at_work(void);
extern TimestampTz es_scavenger_next(EsDatabase *db);

#endif							/* ES_SCAVENGER_H */
