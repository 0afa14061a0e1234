/*
 * events.h
 *		The events of the log that a projection takes.
 */
#ifndef ES_EVENTS_H
#define ES_EVENTS_H

#include "core/name_set.h"
#include "projections/definition.h"
#include "read/batch.h"

/* An event that waits behind one that was parked. */
typedef struct EsParked
{
	int64		position;
	char	   *stream;
} EsParked;

/* The next events of a projection. */
typedef struct EsTaken
{
	EsBatch    *batch;
	bool		complete;		/* there are no more in the range that was read */
	List	   *parked;			/* of EsParked: events that are not in the batch */
} EsTaken;

extern EsTaken es_events_read(const EsCatalog *cat, const EsProjection *projection,
							  int64 after, int64 upto, Snapshot snapshot, int64 limit,
							  const EsNameSet *parked_streams);

#endif							/* ES_EVENTS_H */
