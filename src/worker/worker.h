/*
 * worker.h
 *		The background processes: launcher and schedulers.
 */
#ifndef ES_WORKER_H
#define ES_WORKER_H

#include "postgres.h"

extern void es_launcher_init(void);
extern void es_evict_init(void);

/* Entry points, found by name when a worker starts. */
extern PGDLLEXPORT void es_launcher_main(Datum arg);
extern PGDLLEXPORT void es_scheduler_main(Datum arg);

#endif							/* ES_WORKER_H */
