/*
 * from.c
 *		Functions of the store in FROM: planning them as nodes of ours.
 *
 * PostgreSQL runs a function in FROM to its end into a tuplestore (FunctionScan).  For the
 * functions that the rooms register, a hook of the planner puts a CustomScan in its place:
 * one that gives events as they are found (read/event_scan.c), or one that keeps the one
 * row of an append without a tuplestore (call_scan.c).  PostgreSQL's documentation, "Writing a
 * Custom Scan Provider"; set_rel_pathlist in optimizer/path/allpaths.c.
 *
 * The node is not of a table: scanrelid is 0, custom_scan_tlist lists the columns that are
 * used, and custom_exprs begins with the call itself, so the plan depends on the function,
 * and is made anew when that changes.
 *
 * Invariants
 * 1. No node where a row of it could be checked again (UPDATE, DELETE, MERGE, row marks, at this
 *    level of the query or around it): FunctionScan is given the row that it had returned
 *    (ExecScanFetch in executor/execScan.c), a node without a table would be executed again.
 *    FunctionScan stays for WITH ORDINALITY and ROWS FROM of several functions, too.
 * 2. No node where ALTER FUNCTION has put something around the function or made it STRICT, or where
 *    it is another function of that name: it is known by the address of its C function.
 * 3. Nothing is registered but when the library is loaded.
 * 4. A function that does something is called for each row of the outer side of a LATERAL join, also
 *    if its arguments are the same again: with a node or without, its columns, and those of a
 *    sub-query that calls it, count as volatile, so that no Memoize is put over it
 *    (get_memoize_path in optimizer/path/joinpath.c, which looks at the columns only).
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

#include "core/from.h"
#include "core/settings.h"

/* Of each room that registers any. */
#define MAX_ROOMS	4

static struct
{
	const EsFromFunction *functions;
	int			n;
}			registered[MAX_ROOMS];
static int	nregistered = 0;

static set_rel_pathlist_hook_type next_hook = NULL;

void
es_from_register(const EsFromFunction *functions, int n)
{
	Assert(nregistered < MAX_ROOMS);
	registered[nregistered].functions = functions;
	registered[nregistered++].n = n;
}

/* ---- which function it is ---- */

/* The function at an address; NULL: none of ours. */
const EsFromFunction *
es_from_find(PGFunction function)
{
	for (int i = 0; i < nregistered; i++)
	{
		for (int j = 0; j < registered[i].n; j++)
		{
			if (registered[i].functions[j].function == function)
				return &registered[i].functions[j];
		}
	}
	return NULL;
}

static bool
is_registered_name(const char *name)
{
	for (int i = 0; i < nregistered; i++)
	{
		for (int j = 0; j < registered[i].n; j++)
		{
			if (strcmp(registered[i].functions[j].name, name) == 0)
				return true;
		}
	}
	return false;
}

/*
 * Which of our functions it is; NULL: none.  The name is looked at first, so that no other
 * library is loaded just because a query is planned.
 */
const EsFromFunction *
es_from_find_by_oid(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool		possible;
	FmgrInfo	info;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	possible = proc->prolang == ClanguageId && is_registered_name(NameStr(proc->proname));
	ReleaseSysCache(tuple);
	if (!possible)
		return NULL;
	fmgr_info(function, &info);
	return info.fn_strict ? NULL : es_from_find(info.fn_addr);	/* (2) */
}

/* ---- planning ---- */

/* May a row of this query be checked again (1)? */
static bool
may_recheck(const PlannerInfo *root)
{
	for (; root != NULL; root = root->parent_root)
	{
		if ((root->parse->commandType != CMD_SELECT && root->parse->commandType != CMD_INSERT) ||
			root->parse->rowMarks != NIL || root->rowMarks != NIL)
			return true;
	}
	return false;
}

/* The call that stands in FROM; NULL: it is something else. */
static FuncExpr *
only_call(const RangeTblEntry *rte)
{
	RangeTblFunction *function;

	if (rte->rtekind != RTE_FUNCTION || rte->funcordinality || list_length(rte->functions) != 1)
		return NULL;
	function = linitial_node(RangeTblFunction, rte->functions);
	if (function->funccolnames != NIL || !IsA(function->funcexpr, FuncExpr))
		return NULL;
	return (FuncExpr *) function->funcexpr;
}

/* Is there a call anywhere in a query that does something? */
static bool
acts_within(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, FuncExpr))
	{
		const EsFromFunction *function = es_from_find_by_oid(((FuncExpr *) node)->funcid);

		if (function != NULL && function->acts)
			return true;
	}
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, acts_within, context, 0);
	return expression_tree_walker(node, acts_within, context);
}

static void
plan_function(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	FuncExpr   *call;
	const EsFromFunction *function;

	if (next_hook != NULL)
		next_hook(root, rel, rti, rte);
	if (!IS_SIMPLE_REL(rel))
		return;
	if (rte->rtekind == RTE_SUBQUERY && rte->lateral && acts_within((Node *) rte->subquery, NULL))
		rel->reltarget->has_volatile_expr = VOLATILITY_VOLATILE;	/* (4) */
	call = only_call(rte);
	if (call == NULL)
		return;
	function = es_from_find_by_oid(call->funcid);
	if (function == NULL)
		return;
	if (function->acts)
		rel->reltarget->has_volatile_expr = VOLATILITY_VOLATILE;	/* (4) */
	if (es_guc_enable_scan && !may_recheck(root))
		function->paths(root, rel, call, function);
}

void
es_from_init(void)
{
	next_hook = set_rel_pathlist_hook;
	set_rel_pathlist_hook = plan_function;
}

/* ---- for those who make paths and plans ---- */

/* The call that a relation of a query is. */
FuncExpr *
es_from_expression(PlannerInfo *root, RelOptInfo *rel)
{
	return only_call(planner_rt_fetch(rel->relid, root));
}

/* A path for the relation, without costs. */
CustomPath *
es_from_path(PlannerInfo *root, RelOptInfo *rel, const CustomPathMethods *methods)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, rel->lateral_relids);
	path->path.rows = rel->rows;
	path->flags = CUSTOMPATH_SUPPORT_BACKWARD_SCAN | CUSTOMPATH_SUPPORT_PROJECTION;
	path->methods = methods;
	return path;
}

/*
 * The columns of the relation that are used, each once, as a target list; the whole row is one.  The
 * plan may be given another target list than the one that it is made with, or keep that one where
 * the relation's is another by now (create_projection_plan in optimizer/plan/createplan.c,
 * apply_scanjoin_target_to_paths in planner.c), so all of them count.
 */
List *
es_from_columns(RelOptInfo *rel, const CustomPath *path, List *tlist, List *quals)
{
	List	   *all = list_make4(tlist, rel->reltarget->exprs, path->path.pathtarget->exprs, quals);
	List	   *vars = pull_var_clause((Node *) all,
									   PVC_RECURSE_AGGREGATES | PVC_RECURSE_WINDOWFUNCS | PVC_RECURSE_PLACEHOLDERS);
	Bitmapset  *seen = NULL;
	List	   *columns = NIL;
	ListCell   *lc;

	foreach(lc, vars)
	{
		Var		   *var = lfirst_node(Var, lc);

		if (var->varno != rel->relid || bms_is_member(var->varattno, seen))
			continue;
		seen = bms_add_member(seen, var->varattno);
		columns = lappend(columns, makeTargetEntry((Expr *) copyObject(var), list_length(columns) + 1, NULL, false));
	}
	return columns;
}
