/*
 * catchup.h
 *		Applying the log to a projection, batch by batch.
 */
#ifndef ES_CATCHUP_H
#define ES_CATCHUP_H

#include "projections/batch.h"
#include "projections/figures.h"

typedef struct EsCatchup
{
	const EsCatalog *cat;
	int			id;
	int64		upto;			/* no event beyond */
	int64		limit;			/* events in the batch */
	bool		to_the_end;		/* event_log is locked against appends: past the
								 * head, own events too */
	EsFigures  *figures;		/* of the worker that runs it; NULL: a session */

	/* result */
	bool		runs;			/* false: gone, not running, or live */
	int64		events;			/* in the batch; set before they are applied */
	int64		checkpoint;		/* now */
	bool		complete;		/* there is nothing more up to upto and the head */
} EsCatchup;

extern void es_catchup_batch(EsCatchup *catchup);

/* dead_letters.c */
extern HTAB *es_dead_letters_parked_streams(const EsProjection *projection);
extern void es_dead_letters_park(const EsProjection *projection, List *parked);
extern void es_dead_letters_add(const EsProjection *projection, int64 position, int attempts,
								const char *message, const char *sqlstate);
extern void es_dead_letters_remove(int id);

/* failure.c */
extern void es_failure_handle(const EsCatalog *cat, EsFigures *figures, int64 events, int64 done,
							  const ErrorData *error);

#endif							/* ES_CATCHUP_H */
