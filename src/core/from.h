/*
 * from.h
 *		Functions of the store in FROM: planning them, and calling them from a node.
 */
#ifndef ES_FROM_H
#define ES_FROM_H

#include "postgres.h"

#include "executor/executor.h"
#include "fmgr.h"
#include "nodes/execnodes.h"
#include "nodes/extensible.h"
#include "nodes/pathnodes.h"
#include "pgstat.h"

typedef struct EsFromFunction EsFromFunction;

/* Replaces the paths of a call in FROM. */
typedef void (*EsFromPaths) (PlannerInfo *root, RelOptInfo *rel, FuncExpr *call,
							 const EsFromFunction *function);

/* A function that has a node.  Kept by whoever registers it. */
struct EsFromFunction
{
	const char *name;
	PGFunction	function;
	bool		acts;			/* it does something: each call counts, also one like another */
	EsFromPaths paths;
	const void *how;			/* what its node needs to know of it */
};

extern void es_from_register(const EsFromFunction *functions, int n);
extern const EsFromFunction *es_from_find(PGFunction function);
extern const EsFromFunction *es_from_find_by_oid(Oid function);
extern void es_from_init(void);
extern List *es_from_columns(RelOptInfo *rel, const CustomPath *path, List *tlist, List *quals);
extern CustomPath *es_from_path(PlannerInfo *root, RelOptInfo *rel, const CustomPathMethods *methods);
extern FuncExpr *es_from_expression(PlannerInfo *root, RelOptInfo *rel);

/* The call, in a running node. */
typedef struct EsFromCall
{
	const EsFromFunction *function;
	FmgrInfo	info;
	FunctionCallInfo fcinfo;
	ExprState **args;			/* NULL: a constant, which is in fcinfo already */
	Bitmapset  *params;			/* the arguments depend on these */
	MemoryContext context;		/* of the arguments' values, until the next call */
	PgStat_FunctionCallUsage usage;
	int		   *columns;		/* of each column of the node: its number, 0: the whole row */
	TupleDesc	whole;			/* of the whole row; NULL: it is not used */
} EsFromCall;

extern void es_from_call_init(EsFromCall *call, CustomScanState *node);
extern FunctionCallInfo es_from_call_begin(EsFromCall *call, ExprContext *econtext, bool keep);
extern void es_from_call_end(EsFromCall *call);
extern bool es_from_call_changes(const EsFromCall *call, const Bitmapset *changed);
extern TupleTableSlot *es_from_call_store(EsFromCall *call, ScanState *node, Datum *values, bool *isnull);
extern TupleTableSlot *es_from_call_scan(const EsFromCall *call, ScanState *node, ExecScanAccessMtd next);
extern void es_from_call_explain(CustomScanState *node, List *ancestors, struct ExplainState *es);

#endif							/* ES_FROM_H */
