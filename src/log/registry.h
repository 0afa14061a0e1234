/*
 * registry.h
 *		What the backends share: which positions are in flight, how far the log
 *		can be read, and who is to be woken.
 */
#ifndef ES_REGISTRY_H
#define ES_REGISTRY_H

#include "core/catalog.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/* What the seal register says once the log has seen its first append: seal.c. */
#define ES_SEALED		2
#define ES_UNSEALED		1

/*
 * A counter whose numbers survive a crash: no number below limit is handed out
 * again.  See positions.c.
 */
typedef struct EsCounter
{
	pg_atomic_uint64 next;		/* the number to hand out next */
	pg_atomic_uint64 limit;		/* numbers below are covered by the register */
} EsCounter;

/* Why projections that are due wait for a worker. */
typedef enum EsShortage
{
	ES_SHORTAGE_NONE,
	ES_SHORTAGE_OF_WORKERS,		/* eventstore.max_workers is used up */
	ES_SHORTAGE_OF_PROCESSES	/* max_worker_processes is */
} EsShortage;

/*
 * A database with an event log.  Fields without a note are atomics, or set
 * once before the entry is used.
 */
typedef struct EsDatabase
{
	Oid			dboid;			/* registry lock */
	Oid			store;			/* OID of position_register: which store of
								 * that database; own lock */
	LWLock	   *lock;			/* guards setting up and extending */
	EsCounter	positions;
	EsCounter	stream_keys;
	pg_atomic_uint64 head;		/* the greatest head ever published */
	pg_atomic_uint32 sealed;	/* has the log seen its first append? */
	pg_atomic_uint32 seals;		/* counts how often it was sealed */

	ConditionVariable head_moved;
	ConditionVariable progress_moved;	/* of projections */
	pg_atomic_uint32 projections_changed;	/* counts changes of their list */
	pg_atomic_uint32 waiters;	/* sleepers on head_moved */
	pg_atomic_uint32 wake_wanted;	/* the scheduler sleeps until a
									 * transaction that appended ends */
	pg_atomic_uint32 scheduler; /* its PGPROC's number + 1; 0: none */
	pg_atomic_uint32 shortage;	/* EsShortage, as the scheduler last found it */

	/* for launcher and statements: registry lock; see worker/README.md */
	pid_t		scheduler_pid;	/* 0: none */
	bool		scheduler_returned; /* the last one ended by itself */
	bool		scheduler_wanted;	/* an append found none running */
	int			holds;			/* statements that keep it out */
} EsDatabase;

/* A backend with positions in flight, as eventstore.blockers shows it. */
typedef struct EsInFlight
{
	int			pid;
	int64		bound;			/* none of its positions is below */
} EsInFlight;

extern void es_registry_init(void);
extern bool es_registry_loaded(void);
extern void es_registry_require(void);
extern LWLock *es_registry_lock(void);

extern EsDatabase *es_registry_database(Oid dboid, bool create);
extern EsDatabase *es_registry_databases(int *n);
extern void es_registry_forget(Oid dboid);

extern int64 es_registry_reserve(EsDatabase *db, int64 n);
extern int64 es_registry_glance(EsDatabase *db);
extern int64 es_registry_head(EsDatabase *db);
extern int64 es_registry_own_first(void);
extern EsInFlight *es_registry_list(int *n);

extern void es_registry_set_launcher(bool running);
extern void es_registry_wake_launcher(void);
extern void es_registry_wake_scheduler(EsDatabase *db);
extern void es_registry_call_scheduler(EsDatabase *db);

#endif							/* ES_REGISTRY_H */
