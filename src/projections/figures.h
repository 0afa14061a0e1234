/*
 * figures.h
 *		What is going on in the projections, in shared memory.
 */
#ifndef ES_FIGURES_H
#define ES_FIGURES_H

#include "log/registry.h"
#include "projections/definition.h"

/* Delay before a projection that a statement wants to lock is run again. */
#define ES_INTERRUPTED_MS	50

/* A projection that workers run.  All fields: the figures' lock. */
typedef struct EsFigures
{
	Oid			dboid;			/* InvalidOid: a free entry */
	Oid			store;			/* which store of that database */
	int			id;
	bool		runnable;
	bool		wants_inline;	/* catches up to be applied by appends */
	pid_t		pid;			/* of the worker that runs it; 0: none */
	bool		interrupted;	/* a statement has asked it to stop its batch */
	TimestampTz last_run;
	TimestampTz not_before;
	int			batch_limit;	/* most events in its next batch */
	int			deaths;			/* of processes, since a batch last ended well */
	TransactionId version;		/* of its definition, at the last sync */
	int64		reached;		/* how far it has come, at least its checkpoint: a hint */
	bool		set_back;		/* a sync has lowered that since it was claimed */
	bool		at_rest;		/* its scheduler has left, with nothing to do */

	/* A version of it has none of its events in (empty_from, empty_upto]. */
	TransactionId empty_version;
	int64		empty_from;
	int64		empty_upto;
	TimestampTz store_at;		/* when to store that as its checkpoint; 0: it is */

	bool		behind;			/* the last batch left events: only the worker that has
								 * claimed it uses that */

	/* the switch to inline, while appenders are in its way */
	TimestampTz switch_at;
	int			switch_failures;

	/* to be looked at while it runs */
	TimestampTz batch_started;	/* 0: none is running */
	int64		batch_events;
	int64		batch_done;
	double		batch_ms;		/* of the last one that ended well */
	double		rate;			/* events a second, lately */
} EsFigures;

/* A projection as the tables have it. */
typedef struct EsStored
{
	int			id;
	bool		runnable;		/* workers should run it */
	bool		wants_inline;
	TransactionId version;
	int64		checkpoint;
	bool		has_entry;		/* for es_figures_set */
} EsStored;

/* The projections of a store that workers should run. */
typedef struct EsDue
{
	int			waiting;		/* due, and nobody runs them */
	int			running;
	TimestampTz next;			/* when the next of those that were put off will be due; 0: none was */
} EsDue;

extern void es_figures_init(void);

extern LWLock *es_figures_lock(void);

/* a statement that drops the database; the launcher */
extern void es_figures_forget(Oid dboid);

/* scheduler and worker, when the store has gone */
extern void es_figures_forget_store(Oid store);

/* scheduler */
extern int	es_figures_set(Oid store, EsStored *stored, int n);
extern int	es_figures_count(Oid store);
extern void es_figures_rest(Oid store, int64 head);

/* scheduler and launcher */
extern EsDue es_figures_due(Oid dboid, Oid store, int64 head);

/* worker; what it does with the entry: turn.h */
extern EsFigures *es_figures_claim(Oid store, int64 head);

/* anybody */
extern int64 es_figures_reached(const EsCatalog *cat, const EsProjection *projection, int64 checkpoint);
extern EsFigures *es_figures_list(const EsCatalog *cat, int *n);
extern bool es_figures_is_due(const EsFigures *figures, int64 head);
extern void es_figures_hurry(const EsCatalog *cat, int id);
extern void es_figures_interrupt(const EsCatalog *cat, int id);

#endif							/* ES_FIGURES_H */
