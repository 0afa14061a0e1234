/*
 * call_scan.h
 *		A function in FROM that is called once, and its result kept.
 */
#ifndef ES_CALL_SCAN_H
#define ES_CALL_SCAN_H

#include "core/from.h"

/* A function that returns one row: makes its columns, in the current memory context. */
typedef void (*EsCallRow) (FunctionCallInfo fcinfo, Datum *values, bool *isnull);

/* Most columns of such a row. */
#define ES_CALL_ROW_COLUMNS	4

/* How a function is called; .how of the one that is registered. */
typedef struct EsCallHow
{
	EsCallRow	row;			/* NULL: it is an SQL function that returns a set */
} EsCallHow;

extern void es_call_scan_paths(PlannerInfo *root, RelOptInfo *rel, FuncExpr *call,
							   const EsFromFunction *function);
extern void es_call_scan_init(void);

#endif							/* ES_CALL_SCAN_H */
