/*
 * event_scan.c
 *		The node of a read in FROM, which gives events as they are found.
 *
 * Planning: the relation gets one path, and one for each order that the query has a use for, for
 * events come in the order of positions, and those of a stream in that of versions too.
 * Conditions on top of the read lead to fewer events (conditions.c) where the answer stays as it
 * is:
 *	- types, streams and the bound where the read begins: not with max_count, which counts the
 *	  events that the condition leaves out; not with wait, which such an event ends;
 *	- the bound where the read ends: always.
 *
 * Running: arguments, conditions, head and snapshot are taken when the first row is asked for.
 * Then each row is one step of the reader (reader.c), forwards or backwards, and only the columns
 * that are used are made.
 *
 * Invariants
 * 1. Arguments, head and snapshot stay the same through rescans, unless a parameter changed that
 *    the arguments depend on: as a FunctionScan keeps its rows.  What conditions depend on
 *    may change without that.
 * 2. A row points into the page of its event, which stays pinned until the next row.
 *
 * Locks: those of a reader.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "catalog/pg_operator_d.h"
#include "catalog/pg_type_d.h"
#include "miscadmin.h"
#include "nodes/makefuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"

#include "compat/compat.h"
#include "core/from.h"
#include "log/event.h"
#include "log/head.h"
#include "read/conditions.h"
#include "read/event_scan.h"
#include "read/read.h"

/* What the node needs to know of a function; argument numbers, -1: it has no such. */
typedef struct EsReadHow
{
	EsRequestArguments arguments;
	int			place_column;	/* of es_event: its order */
	int			max_count;
	int			backwards;
	int			wait;
	bool		types;			/* can it use conditions on types, on streams? */
	bool		streams;
} EsReadHow;

static const EsReadHow how_stream = {es_request_stream, ES_EVENT_COL_VERSION, 2, 3, -1, true, false};
static const EsReadHow how_all = {es_request_all, ES_EVENT_COL_POSITION, 1, 4, 5, true, true};
static const EsReadHow how_category = {es_request_category, ES_EVENT_COL_POSITION, 2, -1, 5, true, true};
static const EsReadHow how_query = {es_request_query, ES_EVENT_COL_POSITION, 2, 4, 3, true, false};
static const EsReadHow how_correlation = {es_request_correlation, ES_EVENT_COL_POSITION, 1, -1, -1, false, false};

typedef struct EventScanState
{
	CustomScanState css;		/* the node; first */
	EsFromCall	call;
	const EsReadHow *how;
	uint32		columns;		/* of es_event: those to be made */
	bool		places_only;	/* nothing but the place is used of an event */
	List	   *conditions;		/* ExprStates */
	List	   *kinds;			/* of each */
	MemoryContext values;		/* of the conditions */
	MemoryContext reading;		/* of the reader */
	EsReader   *reader;			/* NULL: the scan has not started */
	EsReaderFigures figures;	/* of readers that have ended */
} EventScanState;

/* ---- planning ---- */

static Plan *
plan_event_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
				List *clauses, List *custom_plans);
static Node *create_event_scan(CustomScan *plan);

static const CustomPathMethods path_methods = {
	.CustomName = "EventScan",
	.PlanCustomPath = plan_event_scan,
};

static const CustomScanMethods scan_methods = {
	.CustomName = "EventScan",
	.CreateCustomScanState = create_event_scan,
};

/* Is the argument surely null? */
static bool
is_null(FuncExpr *call, int argno)
{
	Node	   *arg = argno < 0 ? NULL : list_nth(call->args, argno);

	return arg == NULL || (IsA(arg, Const) && ((Const *) arg)->constisnull);
}

/* Which way does the read go?  ForwardScanDirection, backward, or NoMovement: not known. */
static ScanDirection
direction_of(FuncExpr *call, const EsReadHow *how)
{
	Node	   *arg = how->backwards < 0 ? NULL : list_nth(call->args, how->backwards);

	if (arg == NULL)
		return ForwardScanDirection;
	if (!IsA(arg, Const) || ((Const *) arg)->constisnull)
		return NoMovementScanDirection;
	return DatumGetBool(((Const *) arg)->constvalue) ? BackwardScanDirection : ForwardScanDirection;
}

static EsFoundConditions
find_conditions(RelOptInfo *rel, FuncExpr *call, const EsReadHow *how)
{
	ScanDirection direction = direction_of(call, how);
	bool		whole = is_null(call, how->max_count) && is_null(call, how->wait);
	EsConditionUse use = {
		.place_column = how->place_column,
		.types = whole && how->types,
		.streams = whole && how->streams,
		.lower = whole || direction == BackwardScanDirection,
		.upper = whole || direction == ForwardScanDirection,
	};

	return es_conditions_find(rel, &use);
}

/* The order by a column, if the query has a use for it. */
static List *
order_by(PlannerInfo *root, RelOptInfo *rel, ScanDirection direction, AttrNumber column)
{
	Expr	   *var = (Expr *) makeVar(rel->relid, column, INT8OID, -1, InvalidOid, 0);

	if (direction == NoMovementScanDirection)
		return NIL;
	return es_compat_expression_pathkey(root, var, direction == ForwardScanDirection ? Int8LessOperator :
										get_commutator(Int8LessOperator), rel->relids);
}

static void
add_event_path(PlannerInfo *root, RelOptInfo *rel, List *pathkeys)
{
	CustomPath *path = es_from_path(root, rel, &path_methods);
	double		per_row = cpu_tuple_cost + cpu_index_tuple_cost + rel->baserestrictcost.per_tuple;

	path->path.pathkeys = pathkeys;
	path->path.startup_cost = rel->baserestrictcost.startup + 10 * cpu_operator_cost +
		rel->reltarget->cost.startup;
	path->path.total_cost = path->path.startup_cost + per_row * rel->tuples +
		rel->reltarget->cost.per_tuple * rel->rows;
	add_path(rel, (Path *) path);
}

/* Replace the relation's paths: .paths of the functions that are registered. */
static void
event_scan_paths(PlannerInfo *root, RelOptInfo *rel, FuncExpr *call, const EsFromFunction *function)
{
	const EsReadHow *how = function->how;
	ScanDirection direction = direction_of(call, how);
	List	   *by_position;
	List	   *by_version = NIL;

	if (list_length(rel->pathlist) != 1 || ((Path *) linitial(rel->pathlist))->pathtype != T_FunctionScan)
		return;					/* somebody else has plans for it */
	rel->pathlist = NIL;
	by_position = order_by(root, rel, direction, ES_EVENT_COL_POSITION);
	if (how->place_column == ES_EVENT_COL_VERSION)
		by_version = order_by(root, rel, direction, ES_EVENT_COL_VERSION);
	add_event_path(root, rel, by_position);
	if (by_version != NIL)
		add_event_path(root, rel, by_version);
}

static Plan *
plan_event_scan(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
				List *clauses, List *custom_plans)
{
	FuncExpr   *call = es_from_expression(root, rel);
	CustomScan *plan = makeNode(CustomScan);
	const EsFromFunction *function = es_from_find_by_oid(call->funcid);
	EsFoundConditions found = {NIL, NIL, NIL};

	if (function != NULL)
		found = find_conditions(rel, call, function->how);
	plan->scan.plan.targetlist = tlist;
	plan->scan.plan.qual = extract_actual_clauses(clauses, false);
	plan->flags = path->flags;
	plan->custom_exprs = lcons(copyObject(call), copyObject(found.values));
	plan->custom_private = list_make1(found.kinds);
	plan->custom_scan_tlist = es_from_columns(rel, plan->scan.plan.qual);
	plan->methods = &scan_methods;
	return (Plan *) plan;
}

/* ---- running ---- */

static EsConditions
conditions_now(EventScanState *state)
{
	MemoryContext old;
	EsConditions conditions;

	MemoryContextReset(state->values);
	old = MemoryContextSwitchTo(state->values);
	conditions = es_conditions_evaluate(state->conditions, state->kinds, state->css.ss.ps.ps_ExprContext);
	MemoryContextSwitchTo(old);
	return conditions;
}

static void
start_reading(EventScanState *state)
{
	FunctionCallInfo fcinfo = es_from_call_begin(&state->call, state->css.ss.ps.ps_ExprContext, true);
	EsRequest	request = {0};
	EsConditions conditions;
	MemoryContext old = MemoryContextSwitchTo(state->reading);

	state->how->arguments(fcinfo, &request);
	conditions = conditions_now(state);
	state->reader = es_reader_begin(&request, state->css.ss.ps.state->es_snapshot, &conditions,
									state->places_only);
	MemoryContextSwitchTo(old);
	es_from_call_end(&state->call);
}

static void
stop_reading(EventScanState *state)
{
	if (state->reader == NULL)
		return;
	es_reader_end(state->reader);
	state->reader = NULL;
	MemoryContextReset(state->reading);
}

static TupleTableSlot *
next_event(ScanState *node)
{
	EventScanState *state = (EventScanState *) node;
	Datum		values[ES_EVENT_COLS];
	bool		isnull[ES_EVENT_COLS];

	if (state->reader == NULL)
		start_reading(state);
	ExecClearTuple(node->ss_ScanTupleSlot);
	if (!es_reader_next(state->reader, ScanDirectionIsForward(node->ps.state->es_direction)))
		return node->ss_ScanTupleSlot;
	if (state->places_only)
	{
		values[state->how->place_column - 1] = Int64GetDatum(es_reader_place(state->reader));
		isnull[state->how->place_column - 1] = false;
	}
	else
		es_rows_make(es_reader_rows(state->reader), es_reader_event(state->reader), state->columns, values, isnull);
	return es_from_call_store(&state->call, node, values, isnull);
}

static bool
recheck_event(ScanState *node, TupleTableSlot *slot)
{
	return true;				/* nothing to check: core/from.c (1) */
}

/* ---- the node ---- */

static void
begin_event_scan(CustomScanState *node, EState *estate, int eflags)
{
	EventScanState *state = (EventScanState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	int			ncolumns = list_length(plan->custom_scan_tlist);

	es_from_call_init(&state->call, node);
	state->how = state->call.function->how;
	state->places_only = true;
	for (int i = 0; i < ncolumns; i++)
	{
		int			column = state->call.columns[i];

		state->columns |= column == 0 ? ES_ROWS_ALL_COLUMNS : ES_ROWS_COLUMN(column);
		state->places_only &= column == state->how->place_column;
	}
	state->conditions = ExecInitExprList(list_copy_tail(plan->custom_exprs, 1), &node->ss.ps);
	state->kinds = linitial(plan->custom_private);
	state->values = AllocSetContextCreate(CurrentMemoryContext, "eventstore conditions", ALLOCSET_SMALL_SIZES);
	state->reading = AllocSetContextCreate(CurrentMemoryContext, "eventstore read", ALLOCSET_SMALL_SIZES);
}

static TupleTableSlot *
exec_event_scan(CustomScanState *node)
{
	return ExecScan(&node->ss, next_event, recheck_event);
}

static void
end_event_scan(CustomScanState *node)
{
	stop_reading((EventScanState *) node);
}

static void
rescan_event_scan(CustomScanState *node)
{
	EventScanState *state = (EventScanState *) node;

	ExecScanReScan(&node->ss);
	if (es_from_call_changes(&state->call, node->ss.ps.chgParam))
		stop_reading(state);
	else if (state->reader != NULL)
	{
		EsConditions conditions = conditions_now(state);

		es_reader_restart(state->reader, &conditions);
	}
}

/* ---- EXPLAIN ---- */

static void
explain_event_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	EventScanState *state = (EventScanState *) node;
	EsReaderFigures figures;
	List	   *names = NIL;
	ListCell   *lc;

	es_from_call_explain(node, ancestors, es);
	if (state->reader == NULL)
		return;
	figures = es_reader_figures(state->reader);
	foreach(lc, figures.indexes)
		names = lappend(names, get_rel_name(lfirst_oid(lc)));
	ExplainPropertyList(figures.by_entries ? "Indexes Only" : "Indexes", names, es);
	if (figures.head >= 0)
		ExplainPropertyInteger("Head", NULL, figures.head, es);
	if (es->analyze)
	{
		ExplainPropertyInteger("Events Looked At", NULL, figures.looked_at, es);
		ExplainPropertyInteger("Events Hidden", NULL, figures.hidden, es);
	}
}

static const CustomExecMethods exec_methods = {
	.CustomName = "EventScan",
	.BeginCustomScan = begin_event_scan,
	.ExecCustomScan = exec_event_scan,
	.EndCustomScan = end_event_scan,
	.ReScanCustomScan = rescan_event_scan,
	.ExplainCustomScan = explain_event_scan,
};

static Node *
create_event_scan(CustomScan *plan)
{
	EventScanState *state = (EventScanState *) newNode(sizeof(EventScanState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

void
es_event_scan_init(void)
{
	static const EsFromFunction functions[] = {
		{"es_read_stream", es_read_stream, event_scan_paths, &how_stream},
		{"es_read_all", es_read_all, event_scan_paths, &how_all},
		{"es_read_category", es_read_category, event_scan_paths, &how_category},
		{"es_query", es_query, event_scan_paths, &how_query},
		{"es_read_correlation", es_read_correlation, event_scan_paths, &how_correlation},
	};

	es_from_register(functions, lengthof(functions));
	RegisterCustomScanMethods(&scan_methods);
}
