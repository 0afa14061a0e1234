/*
 * count.h
 *		How many events a filter takes beyond a position, and how old the first is.
 */
#ifndef ES_COUNT_H
#define ES_COUNT_H

#include "datatype/timestamp.h"
#include "read/filter.h"

/* Limits of a count that a view shows, which may make many of them. */
#define ES_LAG_EVENTS		10000
#define ES_LAG_LOOKED_AT	100000

/* Says whether an event that the filter takes counts; NULL: all do. */
typedef bool (*EsCountsEvent) (TupleTableSlot *event, void *arg);

/* What ends a count early. */
typedef struct EsCountLimits
{
	int64		events;			/* that are counted */
	int64		looked_at;		/* also of those that the filter leaves out */
} EsCountLimits;

typedef struct EsCounted
{
	int64		events;
	bool		complete;		/* there are no more */
	int64		first;			/* position of the first; 0: none */
	TimestampTz first_at;		/* its created_at */
} EsCounted;

extern EsCounted es_count_events(const EsCatalog *cat, const EsFilter *filter, EsRange positions,
								 Snapshot snapshot, EsCountLimits limits,
								 EsCountsEvent counts, void *arg);

#endif							/* ES_COUNT_H */
