/*
 * batch.h
 *		Events as a tuplestore, in order.
 */
#ifndef ES_BATCH_H
#define ES_BATCH_H

#include "access/tupdesc.h"
#include "executor/tuptable.h"
#include "log/stream.h"
#include "streams/upcast.h"
#include "utils/tuplestore.h"

typedef struct EsBatch
{
	Tuplestorestate *store;		/* rows of es_event */
	TupleDesc	desc;
	int64		count;
	int64		upto;			/* all events at or below were looked at */
} EsBatch;

extern EsBatch *es_batch_empty(const EsCatalog *cat);
extern EsBatch *es_batch_of_stream(const EsCatalog *cat, const EsStream *stream,
								   int64 after, int64 upto, Snapshot snapshot);
extern void es_batch_upcast(EsBatch *batch, EsUpcasts *upcasts, void (*about) (TupleTableSlot *event, void *arg), void *arg);
extern TupleTableSlot *es_batch_slot(const EsBatch *batch);
extern bool es_batch_next(EsBatch *batch, TupleTableSlot *slot);
extern void es_batch_rewind(EsBatch *batch);
extern void es_batch_free(EsBatch *batch);

#endif							/* ES_BATCH_H */
