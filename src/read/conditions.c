/*
 * conditions.c
 *		Conditions on top of a read (WHERE type = …) that need not be looked for in vain.
 *
 * They are found when the query is planned, and evaluated when the scan starts.  The executor
 * checks them again on every row that is found, so what is used here may find too many events,
 * never too few:
 *	- the type, as one or one of several, which leads to the type keys that events shown with
 *	  it can have (filter.c), those with upcasters among them;
 *	- the stream, as one;
 *	- the place (the position; the version where that is the order of the read), as a bound.
 *
 * Invariants
 * 1. Only with the operators of PostgreSQL on text and integers, under a collation in which equal is
 *    byte for byte equal, and against a value that is the same for all rows.
 * 2. A condition is used only if it may be checked before all others that stand at its level of
 *    security (restriction_is_securely_promotable).
 * 3. Which conditions leave the answer as it is, event_scan.c says: with max_count, a condition
 *    may not keep the scan from counting an event.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/stratnum.h"
#include "catalog/pg_opfamily.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/clauses.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"
#include "utils/array.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

#include "log/event.h"
#include "read/conditions.h"

/* ---- finding ---- */

/* The column of the relation that an expression is; 0: it is none. */
static AttrNumber
column_of(const RelOptInfo *rel, Node *node)
{
	if (!IsA(node, Var) || ((Var *) node)->varno != rel->relid || ((Var *) node)->varlevelsup != 0)
		return 0;
	return ((Var *) node)->varattno;
}

/* Is it the same for all rows, and known when the scan starts? */
static bool
is_value(Node *node)
{
	return is_pseudo_constant_clause(node) && !contain_subplans(node);
}

/* Is the operator that of text, under a collation where equal is equal byte for byte? */
static bool
is_text_equal(Oid opfuncid, Oid collation)
{
	return opfuncid == F_TEXTEQ && OidIsValid(collation) && get_collation_isdeterministic(collation);
}

static void
add_condition(EsFoundConditions *found, RestrictInfo *clause, Node *value, EsConditionKind kind)
{
	found->values = lappend(found->values, value);
	found->kinds = lappend_int(found->kinds, kind);
	found->used = lappend(found->used, clause);
}

/* column = value, of text. */
static void
find_text_condition(const EsConditionUse *use, RestrictInfo *clause, AttrNumber column, Oid opno,
					Oid collation, Node *value, EsFoundConditions *found)
{
	if (exprType(value) != TEXTOID || !is_text_equal(get_opcode(opno), collation))
		return;
	if (column == ES_EVENT_COL_TYPE && use->types)
		add_condition(found, clause, value, ES_CONDITION_TYPE);
	else if (column == ES_EVENT_COL_STREAM && use->streams)
		add_condition(found, clause, value, ES_CONDITION_STREAM);
}

/* place < value, and the like; the operator has the place on its left. */
static void
find_bound(const EsConditionUse *use, RestrictInfo *clause, Oid opno, Node *value, EsFoundConditions *found)
{
	static const EsConditionKind kinds[] = {
		[BTLessStrategyNumber] = ES_CONDITION_BELOW,
		[BTLessEqualStrategyNumber] = ES_CONDITION_UPTO,
		[BTEqualStrategyNumber] = ES_CONDITION_AT,
		[BTGreaterEqualStrategyNumber] = ES_CONDITION_FROM,
		[BTGreaterStrategyNumber] = ES_CONDITION_ABOVE,
	};
	int			strategy = get_op_opfamily_strategy(opno, INTEGER_BTREE_FAM_OID);
	Oid			type = exprType(value);
	EsConditionKind kind = kinds[strategy];

	if (strategy == 0 || (type != INT8OID && type != INT4OID && type != INT2OID))
		return;
	if (use->fixed_only && !IsA(value, Const) &&
		!(IsA(value, Param) && ((Param *) value)->paramkind == PARAM_EXTERN))
		return;
	if (kind == ES_CONDITION_AT)
	{
		/* with only one of the bounds, it is that one */
		if (use->lower && !use->upper)
			kind = ES_CONDITION_FROM;
		else if (use->upper && !use->lower)
			kind = ES_CONDITION_UPTO;
	}
	if ((kind <= ES_CONDITION_AT && !use->lower) || (kind >= ES_CONDITION_AT && !use->upper))
		return;
	add_condition(found, clause, value, kind);
}

static void
look_at_operator(const RelOptInfo *rel, const EsConditionUse *use, RestrictInfo *clause, OpExpr *op,
				 EsFoundConditions *found)
{
	Node	   *left;
	Node	   *right;
	AttrNumber	column;
	Oid			opno = op->opno;

	if (list_length(op->args) != 2)
		return;
	left = linitial(op->args);
	right = lsecond(op->args);
	column = column_of(rel, left);
	if (column == 0)
	{
		column = column_of(rel, right);
		opno = get_commutator(opno);
		right = left;
	}
	if (column <= 0 || !OidIsValid(opno) || !is_value(right))
		return;
	if (column == use->place_column)
		find_bound(use, clause, opno, right, found);
	else
		find_text_condition(use, clause, column, opno, op->inputcollid, right, found);
}

/* type = ANY (value) */
static void
look_at_any(const RelOptInfo *rel, const EsConditionUse *use, RestrictInfo *clause,
			ScalarArrayOpExpr *any, EsFoundConditions *found)
{
	Node	   *value = lsecond(any->args);

	if (any->useOr && use->types && column_of(rel, linitial(any->args)) == ES_EVENT_COL_TYPE &&
		exprType(value) == TEXTARRAYOID && is_value(value) &&
		is_text_equal(get_opcode(any->opno), any->inputcollid))
		add_condition(found, clause, value, ES_CONDITION_TYPES);
}

/*
 * The conditions on the relation's events that can be used.
 */
EsFoundConditions
es_conditions_find(RelOptInfo *rel, const EsConditionUse *use)
{
	EsFoundConditions found = {NIL, NIL, NIL};
	ListCell   *lc;

	foreach(lc, rel->baserestrictinfo)
	{
		RestrictInfo *clause = lfirst_node(RestrictInfo, lc);

		if (clause->pseudoconstant || !restriction_is_securely_promotable(clause, rel))
			continue;
		if (IsA(clause->clause, OpExpr))
			look_at_operator(rel, use, clause, (OpExpr *) clause->clause, &found);
		else if (IsA(clause->clause, ScalarArrayOpExpr))
			look_at_any(rel, use, clause, (ScalarArrayOpExpr *) clause->clause, &found);
	}
	return found;
}

/* ---- evaluating ---- */

/* No event meets a condition with a null. */
static void
nothing(EsConditions *conditions)
{
	conditions->after = 0;
	conditions->upto = 0;
}

static int64
integer_value(Datum value, Oid type)
{
	return type == INT8OID ? DatumGetInt64(value) :
		type == INT4OID ? DatumGetInt32(value) : DatumGetInt16(value);
}

static void
apply_bound(EsConditions *conditions, EsConditionKind kind, int64 bound)
{
	if (kind == ES_CONDITION_ABOVE)
		conditions->after = Max(conditions->after, bound);
	if (kind == ES_CONDITION_FROM || kind == ES_CONDITION_AT)
		conditions->after = Max(conditions->after, bound > PG_INT64_MIN ? bound - 1 : bound);
	if (kind == ES_CONDITION_UPTO || kind == ES_CONDITION_AT)
		conditions->upto = Min(conditions->upto, bound);
	if (kind == ES_CONDITION_BELOW)
		conditions->upto = Min(conditions->upto, bound > PG_INT64_MIN ? bound - 1 : bound);
}

/* Of several conditions on the type, one is used. */
static void
apply_types(EsConditions *conditions, Datum value, EsConditionKind kind)
{
	Datum	   *types = &value;
	bool	   *nulls = NULL;
	int			n = 1;

	if (conditions->types != NULL)
		return;
	if (kind == ES_CONDITION_TYPES)
		deconstruct_array(DatumGetArrayTypeP(value), TEXTOID, -1, false, TYPALIGN_INT, &types, &nulls, &n);
	conditions->types = palloc(sizeof(EsName) * Max(n, 1));
	for (int i = 0; i < n; i++)
	{
		if (nulls == NULL || !nulls[i])
			conditions->types[conditions->ntypes++] = es_name_from_text(types[i]);
	}
}

static void
apply_condition(EsConditions *conditions, EsConditionKind kind, Datum value, bool isnull, Oid type)
{
	if (isnull)
		nothing(conditions);
	else if (kind == ES_CONDITION_TYPE || kind == ES_CONDITION_TYPES)
		apply_types(conditions, value, kind);
	else if (kind == ES_CONDITION_STREAM)
		conditions->stream = es_name_from_text(value);
	else
		apply_bound(conditions, kind, integer_value(value, type));
}

/*
 * What the conditions say now; "values" are ExprStates.  Allocated in the current memory
 * context.
 */
EsConditions
es_conditions_evaluate(List *values, List *kinds, ExprContext *econtext)
{
	EsConditions conditions = ES_NO_CONDITIONS;
	ListCell   *value_cell,
			   *kind_cell;

	forboth(value_cell, values, kind_cell, kinds)
	{
		ExprState  *state = lfirst(value_cell);
		bool		isnull;
		Datum		value = ExecEvalExpr(state, econtext, &isnull);

		apply_condition(&conditions, lfirst_int(kind_cell), value, isnull, exprType((Node *) state->expr));
	}
	return conditions;
}

/* What those say that are constants already. */
EsConditions
es_conditions_of_constants(const EsFoundConditions *found)
{
	EsConditions conditions = ES_NO_CONDITIONS;
	ListCell   *value_cell,
			   *kind_cell;

	forboth(value_cell, found->values, kind_cell, found->kinds)
	{
		Const	   *value = lfirst(value_cell);

		if (IsA(value, Const))
			apply_condition(&conditions, lfirst_int(kind_cell), value->constvalue, value->constisnull,
							value->consttype);
	}
	return conditions;
}
