/*
 * from_call.c
 *		The call of a function in FROM, in a running node.
 *
 * As FunctionScan does it (executor/execSRF.c, nodeFunctionscan.c): EXECUTE is checked when
 * the node is initialised, also under EXPLAIN; the arguments are evaluated when the first
 * row is asked for, and again after a rescan if a parameter that they depend on has
 * changed.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/heaptoast.h"
#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "nodes/nodeFuncs.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/typcache.h"

#include "compat/compat.h"
#include "core/from.h"

/* What params_of needs. */
typedef struct ParamsContext
{
	EState	   *estate;
	Bitmapset  *params;
} ParamsContext;

/*
 * Collect the parameters of the executor that an expression depends on: the same as
 * finalize_primnode in optimizer/plan/subselect.c, whose result a CustomScan does not keep for
 * a part of its expressions.
 */
static bool
params_of(Node *node, ParamsContext *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Param))
	{
		Param	   *param = (Param *) node;

		if (param->paramkind == PARAM_EXEC)
			context->params = bms_add_member(context->params, param->paramid);
		return false;
	}
	if (IsA(node, SubPlan))
	{
		SubPlan    *subplan = (SubPlan *) node;
		Plan	   *plan = list_nth(context->estate->es_plannedstmt->subplans, subplan->plan_id - 1);
		Bitmapset  *inner = bms_copy(plan->extParam);
		ListCell   *lc;

		foreach(lc, subplan->parParam)
			inner = bms_del_member(inner, lfirst_int(lc));
		context->params = bms_join(context->params, inner);
		/* fall through to its arguments */
	}
	return expression_tree_walker(node, params_of, context);
}

/*
 * What the whole row is like.  Of a function that returns a record, it has the names that its
 * columns have in the query, as from FunctionScan.
 */
static TupleDesc
describe_whole_row(CustomScanState *node, const Var *var, Expr *call)
{
	TupleDesc	desc;
	Oid			type;
	int			relation;

	if (var->vartype != RECORDOID)
		return lookup_rowtype_tupdesc_copy(var->vartype, var->vartypmod);
	(void) get_expr_result_type((Node *) call, &type, &desc);
	relation = bms_singleton_member(((CustomScan *) node->ss.ps.plan)->custom_relids);
	desc = CreateTupleDescCopy(desc);
	desc->tdtypmod = -1;		/* it is another type of record than that of the function */
	ExecTypeSetColNames(desc, exec_rt_fetch(relation, node->ss.ps.state)->eref->colnames);
	return BlessTupleDesc(desc);
}

/* Which columns of the call's result the node gives. */
static void
find_columns(EsFromCall *call, CustomScanState *node)
{
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	ListCell   *lc;
	int			n = 0;

	call->columns = palloc(sizeof(int) * Max(list_length(plan->custom_scan_tlist), 1));
	foreach(lc, plan->custom_scan_tlist)
	{
		Var		   *var = castNode(Var, lfirst_node(TargetEntry, lc)->expr);

		call->columns[n++] = var->varattno;
		if (var->varattno == 0)
			call->whole = describe_whole_row(node, var, linitial(plan->custom_exprs));
	}
}

/* Prepare the call, which is the first of the node's expressions. */
void
es_from_call_init(EsFromCall *call, CustomScanState *node)
{
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	Expr	   *expr = linitial(plan->custom_exprs);
	ParamsContext context = {node->ss.ps.state, NULL};

	call->state = ExecInitTableFunctionResult(expr, node->ss.ps.ps_ExprContext, &node->ss.ps);
	call->function = es_from_find(call->state->func.fn_addr);
	if (call->function == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function %s was altered while the query was planned",
						get_func_name(((FuncExpr *) expr)->funcid)),
				 errhint("Try again.")));
	(void) params_of((Node *) expr, &context);
	call->params = context.params;
	find_columns(call, node);
	call->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore call", ALLOCSET_SMALL_SIZES);
}

/* A value of an argument that stays: a constant of the plan does. */
static Datum
keep_value(Datum value, const ExprState *arg)
{
	int16		typlen;
	bool		typbyval;

	if (IsA(arg->expr, Const))
		return value;
	get_typlenbyval(exprType((Node *) arg->expr), &typlen, &typbyval);
	return typbyval ? value : datumCopy(value, typbyval, typlen);
}

/*
 * Evaluate the arguments, and begin to count the call in pg_stat_user_functions.  Values stay
 * until the next evaluation if they are to be kept, else for the call only.
 */
FunctionCallInfo
es_from_call_begin(EsFromCall *call, ExprContext *econtext, bool keep)
{
	FunctionCallInfo fcinfo = call->state->fcinfo;
	MemoryContext old;
	ListCell   *lc;
	int			i = 0;

	MemoryContextReset(call->context);
	old = MemoryContextSwitchTo(call->context);
	foreach(lc, call->state->args)
	{
		ExprState  *arg = lfirst(lc);
		NullableDatum *value = &fcinfo->args[i++];

		value->value = ExecEvalExpr(arg, econtext, &value->isnull);
		if (keep && !value->isnull)
			value->value = keep_value(value->value, arg);
	}
	MemoryContextSwitchTo(old);
	fcinfo->isnull = false;
	pgstat_init_function_usage(fcinfo, &call->usage);
	return fcinfo;
}

void
es_from_call_end(EsFromCall *call)
{
	pgstat_end_function_usage(&call->usage, true);
}

/* Would the arguments have other values? */
bool
es_from_call_changes(const EsFromCall *call, const Bitmapset *changed)
{
	return bms_overlap(call->params, changed);
}

/* Put columns of a row of the result into the node's row.  They stay where they are. */
TupleTableSlot *
es_from_call_store(EsFromCall *call, ScanState *node, Datum *values, bool *isnull)
{
	TupleTableSlot *slot = node->ss_ScanTupleSlot;
	MemoryContext old;

	for (int i = 0; i < slot->tts_tupleDescriptor->natts; i++)
	{
		int			column = call->columns[i];

		if (column > 0)
		{
			slot->tts_values[i] = values[column - 1];
			slot->tts_isnull[i] = isnull[column - 1];
			continue;
		}
		old = MemoryContextSwitchTo(node->ps.ps_ExprContext->ecxt_per_tuple_memory);
		slot->tts_values[i] = HeapTupleGetDatum(toast_build_flattened_tuple(call->whole, values, isnull));
		slot->tts_isnull[i] = false;
		MemoryContextSwitchTo(old);
	}
	return ExecStoreVirtualTuple(slot);
}

/* The call, in EXPLAIN. */
void
es_from_call_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	List	   *context = set_deparse_context_plan(es->deparse_cxt, (Plan *) plan, ancestors);

	ExplainPropertyText("Function Call",
						deparse_expression(linitial(plan->custom_exprs), context,
										   list_length(es->rtable) > 1 || es->verbose, false), es);
}
