/*
 * waiting_rows.h
 *		Rows written to eventstore.new_events, on their way into appends.
 */
#ifndef ES_WAITING_ROWS_H
#define ES_WAITING_ROWS_H

#include "postgres.h"

#include "executor/tuptable.h"
#include "utils/relcache.h"

/* The rows of one statement. */
typedef struct EsWaitingRows EsWaitingRows;

extern EsWaitingRows *es_waiting_begin(Relation rel);
extern TupleTableSlot *es_waiting_store_one(EsWaitingRows *rows, TupleTableSlot *row);
extern void es_waiting_store_all(EsWaitingRows *rows, TupleTableSlot **slots, int n);
extern void es_waiting_keep(EsWaitingRows *rows, TupleTableSlot *row);
extern void es_waiting_store_kept(EsWaitingRows *rows);
extern void es_waiting_end(EsWaitingRows *rows);

#endif							/* ES_WAITING_ROWS_H */
