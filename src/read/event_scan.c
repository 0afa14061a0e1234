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
 *	- the bound where the read ends: always; but if the read may wait, which it does once for all
 *	  rescans, only one that is the same for all of them.
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
#include "nodes/supportnodes.h"
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
#include "read/estimate.h"
#include "read/event_scan.h"
#include "read/read.h"

PG_FUNCTION_INFO_V1(read_rows);

typedef struct EventScanState
{
	CustomScanState css;		/* the node; first */
	EsFromCall	call;
	const EsReadHow *how;
	uint32		columns;		/* of es_event: those to be made */
	bool		places_only;	/* nothing but the place is used of an event */
	bool		all_columns;	/* the node's columns are those of es_event */
	bool		explain_only;	/* the query is explained, and not run */
	List	   *conditions;		/* ExprStates */
	List	   *kinds;			/* of each */
	MemoryContext values;		/* of the conditions */
	MemoryContext reading;		/* of the reader */
	EsReader   *reader;			/* NULL: the scan has not started */
	int64		looked_at;		/* events, by readers that have ended */
	int64		hidden;
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
		.types = whole && how->takes_types,
		.streams = whole && how->takes_stream,
		.lower = whole || direction == BackwardScanDirection,
		.upper = whole || direction == ForwardScanDirection,
		.fixed_only = !is_null(call, how->wait),
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

	if (path->path.param_info != NULL && path->path.param_info->ppi_clauses != NIL)
		path->path.rows = path->path.param_info->ppi_rows;
	path->path.pathkeys = pathkeys;
	path->path.startup_cost = rel->baserestrictcost.startup + 10 * cpu_operator_cost +
		rel->reltarget->cost.startup;
	path->path.total_cost = path->path.startup_cost + per_row * rel->tuples +
		rel->reltarget->cost.per_tuple * path->path.rows;
	add_path(rel, (Path *) path);
}

/*
 * How many events there are to be read, and how many meet all conditions: the planner knows no
 * statistics of the columns of a function.
 */
static void
estimate_size(PlannerInfo *root, RelOptInfo *rel, FuncExpr *call, const EsReadHow *how)
{
	EsFoundConditions found = find_conditions(rel, call, how);
	List	   *others = list_difference_ptr(rel->baserestrictinfo, found.used);

	if (found.values == NIL || es_estimate_is_refused())
		return;					/* as the function's support has told, or its declaration */
	rel->tuples = es_estimate_rows(call, how, &found);
	rel->rows = clamp_row_est(rel->tuples * clauselist_selectivity(root, others, 0, JOIN_INNER, NULL));
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
	estimate_size(root, rel, call, how);
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
	plan->custom_scan_tlist = es_from_columns(rel, path, tlist, plan->scan.plan.qual);
	plan->methods = &scan_methods;
	return (Plan *) plan;
}

/*
 * eventstore.read_rows(internal) → internal: support of the reading functions, which says how many
 * rows they return.
 */
Datum
read_rows(PG_FUNCTION_ARGS)
{
	SupportRequestRows *request = (SupportRequestRows *) PG_GETARG_POINTER(0);
	EsFoundConditions none = {NIL, NIL, NIL};
	const EsFromFunction *function;

	if (!IsA(request, SupportRequestRows) || !IsA(request->node, FuncExpr))
		PG_RETURN_POINTER(NULL);
	function = es_from_find_by_oid(request->funcid);
	if (function == NULL || function->paths != event_scan_paths || es_estimate_is_refused())
		PG_RETURN_POINTER(NULL);
	request->rows = es_estimate_rows((FuncExpr *) request->node, function->how, &none);
	PG_RETURN_POINTER(request);
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
	EsReaderFigures figures;

	if (state->reader == NULL)
		return;
	figures = es_reader_figures(state->reader);
	state->looked_at += figures.looked_at;
	state->hidden += figures.hidden;
	es_reader_end(state->reader);
	state->reader = NULL;
	MemoryContextReset(state->reading);
}

static TupleTableSlot *
next_event(ScanState *node)
{
	EventScanState *state = (EventScanState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	Datum		values[ES_EVENT_COLS];
	bool		isnull[ES_EVENT_COLS];

	if (state->reader == NULL)
		start_reading(state);
	ExecClearTuple(slot);
	if (!es_reader_next(state->reader, ScanDirectionIsForward(node->ps.state->es_direction)))
		return slot;
	if (state->all_columns)
	{
		es_rows_make(es_reader_rows(state->reader), es_reader_event(state->reader), state->columns,
					 slot->tts_values, slot->tts_isnull);
		return ExecStoreVirtualTuple(slot);
	}
	if (state->places_only)
	{
		if (slot->tts_tupleDescriptor->natts > 0)
		{
			slot->tts_values[0] = Int64GetDatum(es_reader_place(state->reader));
			slot->tts_isnull[0] = false;
		}
		return ExecStoreVirtualTuple(slot);
	}
	es_rows_make(es_reader_rows(state->reader), es_reader_event(state->reader), state->columns, values, isnull);
	return es_from_call_store(&state->call, node, values, isnull);
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
	state->explain_only = (eflags & EXEC_FLAG_EXPLAIN_ONLY) != 0;
	state->places_only = true;
	state->all_columns = ncolumns == ES_EVENT_COLS;
	for (int i = 0; i < ncolumns; i++)
	{
		int			column = state->call.columns[i];

		state->columns |= column == 0 ? ES_ROWS_ALL_COLUMNS : ES_ROWS_COLUMN(column);
		state->places_only &= column == state->how->place_column;
		state->all_columns &= column == i + 1;
	}
	state->conditions = ExecInitExprList(list_copy_tail(plan->custom_exprs, 1), &node->ss.ps);
	state->kinds = linitial(plan->custom_private);
	state->values = AllocSetContextCreate(CurrentMemoryContext, "eventstore conditions", ALLOCSET_SMALL_SIZES);
	state->reading = AllocSetContextCreate(CurrentMemoryContext, "eventstore read", ALLOCSET_SMALL_SIZES);
}

static TupleTableSlot *
exec_event_scan(CustomScanState *node)
{
	return es_from_call_scan(&((EventScanState *) node)->call, &node->ss, next_event);
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

/* The indexes that a query leads to. */
static List *
indexes_of_query(const EsCatalog *cat, Const *value, bool by_type)
{
	EsQuery    *query = es_query_parse_if(&DatumGetJsonbP(value->constvalue)->root);
	List	   *indexes = NIL;

	for (int i = 0; query != NULL && i < query->nitems; i++)
	{
		const EsQueryItem *item = &query->items[i];

		if (item->ntags > 0)
			indexes = list_append_unique_oid(indexes, cat->event_tag_tag);
		indexes = list_append_unique_oid(indexes, item->ntags == 0 && (by_type || item->types != NULL) ?
										 cat->event_log_type : cat->event_log_position);
	}
	return indexes;
}

/* The indexes that a scan will use which has not started, as far as its arguments are known. */
static List *
indexes_to_be_used(EventScanState *state, const EsCatalog *cat)
{
	const EsReadHow *how = state->how;
	FuncExpr   *call = linitial(((CustomScan *) state->css.ss.ps.plan)->custom_exprs);
	Node	   *query = how->query < 0 ? NULL : list_nth(call->args, how->query);
	bool		by_type = list_member_int(state->kinds, ES_CONDITION_TYPE) ||
		list_member_int(state->kinds, ES_CONDITION_TYPES);

	if (query != NULL)
		return is_null(call, how->query) || !IsA(query, Const) ? NIL :
			indexes_of_query(cat, (Const *) query, by_type);
	if (how->place_column == ES_EVENT_COL_VERSION || list_member_int(state->kinds, ES_CONDITION_STREAM))
		return list_make1_oid(cat->event_log_stream);
	if (!how->takes_types)
		return list_make1_oid(cat->event_log_correlation);
	if (by_type || !is_null(call, how->types) || !is_null(call, how->categories) || !is_null(call, how->category))
		return list_make1_oid(cat->event_log_type);
	return list_make1_oid(cat->event_log_position);
}

/* What a scan is going to do.  Where row-level security applies, it is going to be refused. */
static EsReaderFigures
figures_to_be(EventScanState *state)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsReaderFigures figures = {.head = -1};

	figures.indexes = indexes_to_be_used(state, cat);
	if (state->how->place_column != ES_EVENT_COL_VERSION && !es_rows_under_row_security(cat))
		figures.head = es_head_glance(cat);
	return figures;
}

/* Indexes may have been dropped since. */
static void
explain_indexes(const EsReaderFigures *figures, ExplainState *es)
{
	List	   *names = NIL;
	ListCell   *lc;

	foreach(lc, figures->indexes)
	{
		char	   *name = get_rel_name(lfirst_oid(lc));

		if (name != NULL)
			names = lappend(names, name);
	}
	if (names != NIL)
		ExplainPropertyList("Indexes", names, es);
	if (figures->by_entries)
		ExplainPropertyBool("Index Only", true, es);
}

/*
 * A query that has run, or could have, may be explained by auto_explain when things have gone that it
 * used: only a query that is explained without being run is looked at anew.
 */
static void
explain_event_scan(CustomScanState *node, List *ancestors, ExplainState *es)
{
	EventScanState *state = (EventScanState *) node;
	EsReaderFigures figures;

	es_from_call_explain(node, ancestors, es);
	if (state->reader != NULL)
		figures = es_reader_figures(state->reader);
	else if (state->explain_only)
		figures = figures_to_be(state);
	else
		return;
	explain_indexes(&figures, es);
	if (figures.head >= 0)
		ExplainPropertyInteger("Head", NULL, figures.head, es);
	if (!es->analyze)
		return;
	ExplainPropertyInteger("Events Looked At", NULL, state->looked_at + figures.looked_at, es);
	ExplainPropertyInteger("Events Hidden", NULL, state->hidden + figures.hidden, es);
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
		{"es_read_stream", es_read_stream, false, event_scan_paths, &es_how_stream},
		{"es_read_all", es_read_all, false, event_scan_paths, &es_how_all},
		{"es_read_category", es_read_category, false, event_scan_paths, &es_how_category},
		{"es_query", es_query, false, event_scan_paths, &es_how_query},
		{"es_read_correlation", es_read_correlation, false, event_scan_paths, &es_how_correlation},
	};

	es_from_register(functions, lengthof(functions));
	RegisterCustomScanMethods(&scan_methods);
}
