/*
 * database.h
 *		What the processes of a server share about each database with an event log,
 *		and which of these databases are due.
 */
#ifndef ES_DATABASE_H
#define ES_DATABASE_H

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"

/*
 * A counter whose numbers survive a crash: no number below limit is handed out
 * again.  See positions.c.
 */
typedef struct EsCounter
{
	pg_atomic_uint64 next;		/* the number to hand out next */
	pg_atomic_uint64 limit;		/* numbers below are covered by the register */
} EsCounter;

/* What keeps a database waiting for a background process. */
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
	Oid			dboid;			/* the key */
	pg_atomic_uint32 due;		/* stands in the list of those that are due */
	pg_atomic_uint64 next_due;	/* the next one there */

	/* from here on an entry that is revived begins anew */
	Oid			store;			/* OID of position_register: which store of
								 * that database; own lock */
	LWLock		lock;			/* guards setting up and extending */
	EsCounter	positions;
	EsCounter	stream_keys;
	pg_atomic_uint64 head;		/* the greatest head ever published */
	pg_atomic_uint32 sealed;	/* has the log seen its first append? */
	pg_atomic_uint32 seals;		/* counts how often it was sealed */

	ConditionVariable head_moved;
	ConditionVariable progress_moved;	/* of projections */
	pg_atomic_uint32 changes;	/* counts what the scheduler has to look at in the tables */
	pg_atomic_uint32 waiters;	/* sleepers on head_moved */
	pg_atomic_uint32 wake_wanted;	/* the scheduler sleeps until a
									 * transaction that appended ends */
	pg_atomic_uint32 scheduler; /* its PGPROC's number + 1; 0: none in office */

	/* what the launcher is told: database.c */
	pg_atomic_uint64 wanted_since;	/* a scheduler is wanted since then; 0: none is */
	pg_atomic_uint64 visit_at;	/* one is wanted then, though nobody asks; 0: never */

	/* what the launcher says: worker/launcher.c */
	pg_atomic_uint32 shortage;	/* EsShortage: what it waits for */
	pg_atomic_uint64 waits_since;	/* for a process; 0: it does not wait */
	pg_atomic_uint64 tried_at;	/* its scheduler failed, and is started again then; 0: it did not */
	pg_atomic_uint64 make_way;	/* the scheduler is to leave since then: others wait; 0: it is not */
	bool		asked_at_rest;	/* it had nothing to do then; the launcher's own */

	/* what a worker says */
	pg_atomic_uint32 worker_failed; /* one ended before it could begin to work */

	/*
	 * For launcher, scheduler and statements, see worker/README.md: written under the
	 * databases' lock but for the scheduler's own notes; a look without it sees a hint.
	 */
	pid_t		scheduler_pid;	/* 0: none */
	TimestampTz in_office_since;
	TimestampTz scavenged_at;	/* when the last pass ended; 0: none has */
	bool		scheduler_rests;	/* it has nothing to do */
	bool		scheduler_returned; /* the last one ended by itself */
	bool		dropped;		/* the launcher may free the entry */
	int			holds;			/* statements that keep it out */
} EsDatabase;

extern void es_databases_init(void);
extern LWLock *es_databases_lock(void);
extern EsDatabase *es_database_of(Oid dboid, bool create);
extern EsDatabase **es_databases_list(int *n);
extern void es_database_drop(Oid dboid);

/* anybody; also when a transaction ends, where no error may be raised */
extern void es_database_wake_scheduler(EsDatabase *db);
extern void es_database_call_scheduler(EsDatabase *db);
extern void es_database_list_due(EsDatabase *db);
extern void es_database_note_change(EsDatabase *db);
extern void es_database_change_at_end(EsDatabase *db);

/* launcher */
extern void es_launcher_set(bool running);
extern bool es_launcher_runs(void);
extern void es_launcher_wake(void);
extern EsDatabase *es_due_take(void);
extern EsDatabase *es_due_next(EsDatabase **chain);
extern bool es_database_free_dropped(Oid dboid);

#endif							/* ES_DATABASE_H */
