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

/* Columns of es_event as a set of bits. */
#define ES_ROWS_COLUMN(column)	(UINT32_C(1) << (column))
#define ES_ROWS_ALL_COLUMNS		(~UINT32_C(0))

extern bool es_rows_under_row_security(const EsCatalog *cat);
extern void es_rows_refuse_row_security(const EsCatalog *cat);
extern EsRows *es_rows_begin(const EsCatalog *cat, bool as_stored);
extern EsRows *es_rows_into(const EsCatalog *cat, Tuplestorestate *store, TupleDesc desc, bool as_stored);
extern EsRows *es_rows_returned(FunctionCallInfo fcinfo, const EsCatalog *cat);
extern void es_rows_open(EsRows *rows, Snapshot snapshot);
extern void es_rows_close(EsRows *rows);
extern const struct EsUpcasts *es_rows_upcasters(const EsRows *rows);
extern bool es_rows_hide(const EsRows *rows);
extern bool es_rows_upcasts(EsRows *rows, TupleTableSlot *event);
extern bool es_rows_shows(EsRows *rows, TupleTableSlot *event);
extern void es_rows_make(EsRows *rows, TupleTableSlot *event, uint32 columns, Datum *values, bool *isnull);
extern void es_rows_put(EsRows *rows, TupleTableSlot *event);

#endif							/* ES_ROWS_H */
