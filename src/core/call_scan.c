/*
 * call_scan.c
 *		The node of a function in FROM that does something: it is called once, as a whole, when
 *		the first row is asked for, and its result is kept.
 *
 * Such a function runs exactly as often as under FunctionScan: never for LIMIT 0 and EXPLAIN,
 * once however few of its rows are asked for, again after a rescan only if a parameter changed
 * that its arguments depend on (once an outer row in LATERAL); otherwise a rescan and a
 * FETCH BACKWARD give the same rows again.  What is saved is the tuplestore around a single
 * row.
 *
 * Number of rows and costs are those of the FunctionScan, but for the same amount in each plan, so
 * the rest of the plan is the same too.
 *
 * Invariant: a row, with what the call allocated, stays in the call's memory context until the
 * next call.
 *
 * Locks: those of the function.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "optimizer/pathnode.h"
#include "optimizer/restrictinfo.h"
#include "utils/memutils.h"
#include "utils/tuplestore.h"

#include "compat/compat.h"
#include "core/call_scan.h"

typedef struct CallScanState
{
	CustomScanState css;		/* the node; first */
	EsFromCall	call;
	const EsCallHow *how;
	bool		backward;		/* rows may be asked for backwards */

	bool		called;
	int			at;				/* of one row: 0 before it, 1 on it, 2 beyond */
	Datum		values[ES_CALL_ROW_COLUMNS];
	bool		isnull[ES_CALL_ROW_COLUMNS];
	Tuplestorestate *store;		/* of a set: its rows; NULL: there are none */
	TupleTableSlot *row;		/* and one of them; NULL: not needed yet */
} CallScanState;

/* ---- planning ---- */

static Plan *
plan_call_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
			   List *clauses, List *custom_plans);
static Node *create_call_scan(CustomScan *plan);

static const CustomPathMethods path_methods = {
	.CustomName = "EventCall",
	.PlanCustomPath = plan_call_scan,
};

static const CustomScanMethods scan_methods = {
	.CustomName = "EventCall",
	.CreateCustomScanState = create_call_scan,
};

/* Replace the relation's paths: .paths of the functions that are registered. */
void
es_call_scan_paths(PlannerInfo *root, RelOptInfo *rel, FuncExpr *call, const EsFromFunction *function)
{
	CustomPath *path;
	Path	   *replaced;

	if (list_length(rel->pathlist) != 1 || ((Path *) linitial(rel->pathlist))->pathtype != T_FunctionScan)
		return;					/* somebody else has plans for it */
	replaced = linitial(rel->pathlist);
	path = es_from_path(root, rel, &path_methods);
	path->path.rows = replaced->rows;
	/* What a rescan of a FunctionScan costs: here, a rescan costs what the first scan does (cost_rescan). */
	path->path.startup_cost = 0;
	path->path.total_cost = replaced->total_cost - replaced->startup_cost;
	rel->pathlist = list_make1(path);
}

static Plan *
plan_call_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
			   List *clauses, List *custom_plans)
{
	CustomScan *plan = makeNode(CustomScan);

	plan->scan.plan.targetlist = tlist;
	plan->scan.plan.qual = extract_actual_clauses(clauses, false);
	plan->flags = path->flags;
	plan->custom_exprs = list_make1(copyObject(es_from_expression(root, rel)));
	plan->custom_scan_tlist = es_from_columns(rel, path, tlist, plan->scan.plan.qual);
	plan->methods = &scan_methods;
	return (Plan *) plan;
}

/* ---- calling ---- */

static void
call_for_row(CallScanState *state, ExprContext *econtext)
{
	FunctionCallInfo fcinfo = es_from_call_begin(&state->call, econtext, false);
	MemoryContext old = MemoryContextSwitchTo(state->call.context);

	state->how->row(fcinfo, state->values, state->isnull);
	MemoryContextSwitchTo(old);
}

/* As ExecMakeTableFunctionResult does, for a function that returns a tuplestore. */
static void
call_for_set(CallScanState *state, ExprContext *econtext)
{
	FunctionCallInfo fcinfo = es_from_call_begin(&state->call, econtext, false);
	ReturnSetInfo rsinfo = {.type = T_ReturnSetInfo};
	MemoryContext old;

	rsinfo.econtext = econtext;
	rsinfo.expectedDesc = NULL;
	rsinfo.allowedModes = SFRM_Materialize | SFRM_Materialize_Preferred |
		(state->backward ? SFRM_Materialize_Random : 0);
	rsinfo.returnMode = SFRM_ValuePerCall;
	fcinfo->resultinfo = (Node *) &rsinfo;

	old = MemoryContextSwitchTo(state->call.context);
	(void) FunctionCallInvoke(fcinfo);
	MemoryContextSwitchTo(old);
	fcinfo->resultinfo = NULL;
	state->store = rsinfo.setResult;
	if (state->row == NULL && rsinfo.setDesc != NULL)
	{
		old = MemoryContextSwitchTo(econtext->ecxt_per_query_memory);
		state->row = MakeSingleTupleTableSlot(CreateTupleDescCopy(rsinfo.setDesc), &TTSOpsMinimalTuple);
		MemoryContextSwitchTo(old);
	}
	if (rsinfo.setDesc != NULL && rsinfo.setDesc->tdrefcount == -1)
		FreeTupleDesc(rsinfo.setDesc);
}

static void
forget_result(CallScanState *state)
{
	if (state->row != NULL)
		ExecClearTuple(state->row);
	if (state->store != NULL)
		tuplestore_end(state->store);
	state->store = NULL;
	MemoryContextReset(state->call.context);
	state->called = false;
}

static void
call_function(CallScanState *state)
{
	ExprContext *econtext = state->css.ss.ps.ps_ExprContext;

	if (state->how->row != NULL)
		call_for_row(state, econtext);
	else
		call_for_set(state, econtext);
	es_from_call_end(&state->call);
	state->called = true;
	state->at = 0;
}

/* ---- rows ---- */

static TupleTableSlot *
next_row(ScanState *node)
{
	CallScanState *state = (CallScanState *) node;
	bool		forward = ScanDirectionIsForward(node->ps.state->es_direction);

	if (!state->called)
		call_function(state);
	ExecClearTuple(node->ss_ScanTupleSlot);
	if (state->how->row != NULL)
	{
		state->at = forward ? Min(state->at + 1, 2) : Max(state->at - 1, 0);
		return state->at == 1 ? es_from_call_store(&state->call, node, state->values, state->isnull) : node->ss_ScanTupleSlot;
	}
	if (state->store == NULL || !tuplestore_gettupleslot(state->store, forward, false, state->row))
		return node->ss_ScanTupleSlot;
	slot_getallattrs(state->row);
	return es_from_call_store(&state->call, node, state->row->tts_values, state->row->tts_isnull);
}

/* ---- the node ---- */

static void
begin_call_scan(CustomScanState *node, EState *estate, int eflags)
{
	CallScanState *state = (CallScanState *) node;

	es_from_call_init(&state->call, node);
	state->how = state->call.function->how;
	state->backward = (eflags & EXEC_FLAG_BACKWARD) != 0;
}

static TupleTableSlot *
exec_call_scan(CustomScanState *node)
{
	return es_from_call_scan(&((CallScanState *) node)->call, &node->ss, next_row);
}

static void
end_call_scan(CustomScanState *node)
{
	CallScanState *state = (CallScanState *) node;

	forget_result(state);
	if (state->row != NULL)
		ExecDropSingleTupleTableSlot(state->row);
}

static void
rescan_call_scan(CustomScanState *node)
{
	CallScanState *state = (CallScanState *) node;

	if (es_from_call_changes(&state->call, node->ss.ps.chgParam))
		forget_result(state);
	else if (state->store != NULL)
		tuplestore_rescan(state->store);
	state->at = 0;
	ExecScanReScan(&node->ss);
}

static const CustomExecMethods exec_methods = {
	.CustomName = "EventCall",
	.BeginCustomScan = begin_call_scan,
	.ExecCustomScan = exec_call_scan,
	.EndCustomScan = end_call_scan,
	.ReScanCustomScan = rescan_call_scan,
	.ExplainCustomScan = es_from_call_explain,
};

static Node *
create_call_scan(CustomScan *plan)
{
	CallScanState *state = (CallScanState *) newNode(sizeof(CallScanState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

void
es_call_scan_init(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
