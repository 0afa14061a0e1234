/*
 * catchup.h
 *		Applying the log to a projection, batch by batch.
 */
#ifndef ES_CATCHUP_H
#define ES_CATCHUP_H

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

#endif							/* ES_CATCHUP_H */
