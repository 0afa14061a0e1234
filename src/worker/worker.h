/*
 * worker.h
 *		The background processes: launcher, schedulers and workers.
 */
#ifndef ES_WORKER_H
#define ES_WORKER_H

#include "postgres.h"

extern void es_launcher_init(void);
extern void es_evict_init(void);

/* Entry points, found by name when a worker starts. */
extern PGDLLEXPORT void es_launcher_main(Datum arg);
extern PGDLLEXPORT void es_scheduler_main(Datum arg);
extern PGDLLEXPORT void es_worker_main(Datum arg);

/* worker.c: what runs a projection asks, in whatever process */
extern bool es_worker_is_one(void);
extern void es_worker_note_event(int64 events_in_batch);

/* pool.c */
extern void es_pool_init(void);
extern bool es_pool_serve(int due);
extern bool es_pool_enter(int number, Oid dboid);
extern void es_pool_set_idle(bool idle);
extern bool es_pool_is_wanted_elsewhere(bool idle);
extern bool es_pool_may_leave(void);
extern int	es_pool_end(Oid dboid);

/* scavenger.c */
extern long es_scavenger_run(Oid store, long sleep);

#endif							/* ES_WORKER_H */
