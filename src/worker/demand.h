/*
 * demand.h
 *		What each database needs of the launcher.
 */
#ifndef ES_DEMAND_H
#define ES_DEMAND_H

#include "lib/ilist.h"
#include "log/database.h"
#include "postmaster/bgworker.h"

/* A database, as the launcher knows it. */
typedef struct EsJob
{
	Oid			dboid;			/* the key */
	EsDatabase *db;				/* NULL: it is not known to have a log */
	bool		visit;			/* not looked into since the launcher's start */
	bool		wants_scheduler;
	bool		wants_worker;

	BackgroundWorkerHandle *scheduler;	/* that was started, and has not ended; NULL: none */
	TimestampTz started;
	int			failures;		/* of schedulers, one after the other */
	TimestampTz not_before;		/* try again after the last of them */

	int			worker_failures;	/* of workers that could not begin, one after the other */
	TimestampTz no_worker_before;

	TimestampTz hungry_since;	/* a projection waits for a worker; 0: none does */
	TimestampTz look_at;		/* look again then; 0: when it is listed */
	TimestampTz queued_at;		/* 0: it is not in the queue */
	dlist_node	node;
} EsJob;

extern void es_demand_init(MemoryContext context);
extern EsJob *es_demand_job(Oid dboid, bool create);
extern bool es_demand_look(EsJob *job);
extern void es_demand_note_served(EsJob *job);
extern void es_demand_look_at_due(void);
extern void es_demand_look_at_all(bool known_only);
extern TimestampTz es_demand_look_at_timed(void);
extern dlist_head *es_demand_queue(void);
extern void es_demand_note_shortage(EsJob *job, EsShortage shortage);
extern void es_demand_note_no_process(void);
extern bool es_demand_note_end(EsJob *job);
extern bool es_demand_note_worker_end(EsJob *job, bool never_entered);
extern void es_demand_give_up(EsJob *job);

#endif							/* ES_DEMAND_H */
