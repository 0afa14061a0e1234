/*
 * rows.h
 *		From rows of the log to rows of es_event.
 */
#ifndef ES_ROWS_H
#define ES_ROWS_H

#include "core/catalog.h"
#include "core/name.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/tuplestore.h"

typedef struct EsRows EsRows;

extern void es_rows_refuse_row_security(const EsCatalog *cat);
extern EsRows *es_rows_begin(FunctionCallInfo fcinfo, const EsCatalog *cat);
extern EsRows *es_rows_into(const EsCatalog *cat, Tuplestorestate *store, TupleDesc desc, bool as_stored);
extern void es_rows_open(EsRows *rows, Snapshot snapshot);
extern void es_rows_close(EsRows *rows);
extern bool es_rows_upcasts(EsRows *rows, TupleTableSlot *event);
extern bool es_rows_shows(EsRows *rows, TupleTableSlot *event);
extern void es_rows_put(EsRows *rows, TupleTableSlot *event);

#endif							/* ES_ROWS_H */
