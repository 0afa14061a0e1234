/*
 * batch.h
 *		Events on their way to a projection.
 */
#ifndef ES_BATCH_H
#define ES_BATCH_H

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "log/append.h"
#include "projections/definition.h"
#include "streams/upcast.h"
#include "utils/hsearch.h"
#include "utils/tuplestore.h"

/* An event that waits behind one that was parked. */
typedef struct EsParked
{
	int64		position;
	char	   *stream;
} EsParked;

typedef struct EsBatch
{
	Tuplestorestate *store;		/* rows of es_event, in order */
	TupleDesc	desc;
	int64		count;
	int64		upto;			/* all events at or below were looked at */
	bool		complete;		/* there are no more up to the head */
	List	   *parked;			/* of EsParked: not in store */
} EsBatch;

/* Columns of es_event */
#define ES_EVENT_COL_POSITION	1
#define ES_EVENT_COL_STREAM		2
#define ES_EVENT_COL_VERSION	3
#define ES_EVENT_COL_TYPE		4
#define ES_EVENT_COL_SCHEMA_VERSION	5
#define ES_EVENT_COL_DATA		6
#define ES_EVENT_COL_METADATA	7
#define ES_EVENT_COL_EVENT_ID	9
#define ES_EVENT_COL_CREATED_AT	10
#define ES_EVENT_COLS			10

/* Longest stream name in bytes: the key of a set of parked streams. */
#define ES_NAME_MAX_BYTES		(4 * ES_NAME_MAX_CHARS)

extern EsBatch *es_batch_empty(const EsCatalog *cat);
extern EsBatch *es_batch_read(const EsCatalog *cat, const EsProjection *projection,
							  int64 after, int64 upto, Snapshot snapshot, int64 limit,
							  HTAB *parked_streams);
extern EsBatch *es_batch_of_stream(const EsCatalog *cat, const EsStream *stream,
								   int64 after, int64 upto, Snapshot snapshot);
extern void es_batch_upcast(EsBatch *batch, EsUpcasts *upcasts, void (*about) (TupleTableSlot *event, void *arg), void *arg);
extern EsBatch *es_batch_of_call(const EsCatalog *cat, const EsProjection *projection,
								 const EsAppend *call);
extern TupleTableSlot *es_batch_slot(const EsBatch *batch);
extern bool es_batch_next(EsBatch *batch, TupleTableSlot *slot);
extern void es_batch_rewind(EsBatch *batch);
extern void es_batch_free(EsBatch *batch);

#endif							/* ES_BATCH_H */
