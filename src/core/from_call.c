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
#include "catalog/objectaccess.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
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
 * Collect the parameters of the executor that an expression depends on: as finalize_primnode in
 * optimizer/plan/subselect.c does, whose result a CustomScan does not keep for a part of its
 * expressions.  (Those that a subplan returns are never among the changed ones.)
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

/*
 * Look the function up, as init_sexpr in executor/execSRF.c does.  A constant argument gets its value
 * here; the others are to be evaluated.
 */
static void
prepare_function(EsFromCall *call, CustomScanState *node, FuncExpr *expr)
{
	ListCell   *lc;

	if (es_compat_function_acl(expr->funcid, ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION, get_func_name(expr->funcid));
	InvokeFunctionExecuteHook(expr->funcid);
	fmgr_info(expr->funcid, &call->info);
	fmgr_info_set_expr((Node *) expr, &call->info);
	call->fcinfo = palloc0(SizeForFunctionCallInfo(list_length(expr->args)));
	InitFunctionCallInfoData(*call->fcinfo, &call->info, list_length(expr->args), expr->inputcollid, NULL, NULL);
	call->args = palloc0(sizeof(ExprState *) * list_length(expr->args));
	foreach(lc, expr->args)
	{
		NullableDatum *value = &call->fcinfo->args[foreach_current_index(lc)];
		Const	   *constant = lfirst(lc);

		if (!IsA(constant, Const))
			call->args[foreach_current_index(lc)] = ExecInitExpr(lfirst(lc), &node->ss.ps);
		else
		{
			value->value = constant->constvalue;
			value->isnull = constant->constisnull;
		}
	}
}

/* Prepare the call, which is the first of the node's expressions. */
void
es_from_call_init(EsFromCall *call, CustomScanState *node)
{
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	FuncExpr   *expr = linitial_node(FuncExpr, plan->custom_exprs);
	ParamsContext context = {node->ss.ps.state, NULL};

	prepare_function(call, node, expr);
	call->function = call->info.fn_strict ? NULL : es_from_find(call->info.fn_addr);
	if (call->function == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("function %s was altered while the query was planned", get_func_name(expr->funcid)),
				 errhint("Try again.")));
	if (!bms_is_empty(plan->scan.plan.allParam))
		(void) params_of((Node *) expr, &context);
	call->params = context.params;
	find_columns(call, node);
	call->context = AllocSetContextCreate(CurrentMemoryContext, "eventstore call", ALLOCSET_SMALL_SIZES);
}

/* A value that stays where it is. */
static Datum
keep_value(Datum value, const ExprState *arg)
{
	int16		typlen;
	bool		typbyval;

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
	FunctionCallInfo fcinfo = call->fcinfo;
	MemoryContext old;

	MemoryContextReset(call->context);
	old = MemoryContextSwitchTo(call->context);
	for (int i = 0; i < fcinfo->nargs; i++)
	{
		NullableDatum *value = &fcinfo->args[i];

		if (call->args[i] == NULL)
			continue;			/* a constant */
		value->value = ExecEvalExpr(call->args[i], econtext, &value->isnull);
		if (keep && !value->isnull)
			value->value = keep_value(value->value, call->args[i]);
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

/*
 * The node's next row that meets its conditions: as ExecScan, without the part of that which, for a
 * node without a table, takes a row that is checked again for one of the node's (core/from.c, 1).
 */
TupleTableSlot *
es_from_call_scan(const EsFromCall *call, ScanState *node, ExecScanAccessMtd next)
{
	ExprContext *econtext = node->ps.ps_ExprContext;
	ProjectionInfo *projection = node->ps.ps_ProjInfo;

	if (node->ps.qual == NULL && projection == NULL && call->whole == NULL)
		return next(node);		/* nothing is allocated for a row */
	for (;;)
	{
		TupleTableSlot *slot;

		CHECK_FOR_INTERRUPTS();
		ResetExprContext(econtext);
		slot = next(node);
		if (TupIsNull(slot))
			return projection != NULL ? ExecClearTuple(projection->pi_state.resultslot) : slot;
		econtext->ecxt_scantuple = slot;
		if (node->ps.qual == NULL || ExecQual(node->ps.qual, econtext))
			return projection != NULL ? ExecProject(projection) : slot;
		InstrCountFiltered1(node, 1);
	}
}

/*
 * The call, in EXPLAIN: its arguments under VERBOSE only, as those of a FunctionScan, for they are
 * data.  The function may be gone, if the query is explained after it has run.
 */
void
es_from_call_explain(CustomScanState *node, List *ancestors, ExplainState *es)
{
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	FuncExpr   *call = linitial_node(FuncExpr, plan->custom_exprs);
	char	   *name = get_func_name(call->funcid);

	if (name == NULL)
		return;
	ExplainPropertyText("Function Name", name, es);
	if (es->verbose)
		ExplainPropertyText("Function Call",
							deparse_expression((Node *) call, set_deparse_context_plan(es->deparse_cxt, (Plan *) plan, ancestors),
											   true, false), es);
}
