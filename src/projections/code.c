/*
 * code.c
 *		The code that users name: functions and statements.
 *
 * A function is given by name, with its schema or as the search_path finds it, and
 * must have exactly the signature of its form.  A statement is analysed when it is
 * given, so that a misspelt table is an error of whoever misspelt it, not of a
 * worker at night.
 *
 * What the code names (the function; tables, views and functions of a statement) is
 * kept as a list of identities, text that a dump carries, so that depend.c can refuse
 * to drop it.  What the body of a function uses is not known.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/dbcommands.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "nodes/value.h"
#include "parser/analyze.h"
#include "parser/parse_func.h"
#include "parser/parser.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/queryenvironment.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/typcache.h"
#include "utils/varlena.h"

#include "compat/compat.h"
#include "projections/code.h"

/* ---- functions ---- */

static const char *
function_signature(EsForm form)
{
	return form == ES_FORM_REDUCER ? "(state jsonb, event es_event) returning jsonb" : "(event es_event)";
}

static void
check_function(Oid function, const char *name, EsForm form)
{
	if (get_func_prokind(function) != PROKIND_FUNCTION || get_func_retset(function))
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a plain function", name),
				 errhint("The %s of a projection is a function that returns no set.", es_form_name(form))));
	if (form == ES_FORM_REDUCER && get_func_rettype(function) != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("reducer %s must return jsonb", name)));
}

/* The function of that name, in parts, with the signature of the form; or InvalidOid. */
static Oid
find_function(List *names, EsForm form, Oid event_type)
{
	Oid			types[2] = {JSONBOID, event_type};
	bool		reducer = form == ES_FORM_REDUCER;

	return LookupFuncName(names, reducer ? 2 : 1, reducer ? types : types + 1, true);
}

/*
 * The function of that name with the signature of the form.  If it is missing:
 * an error, or InvalidOid.  Looked up each time, for another function may have been given
 * the name since.
 */
Oid
es_code_function(const char *name, EsForm form, Oid event_type, bool missing_ok)
{
	Oid			function = find_function(es_compat_name_list(name), form, event_type);

	if (OidIsValid(function))
		check_function(function, name, form);
	else if (!missing_ok)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s%s does not exist", name, function_signature(form)),
				 errhint("The %s of a projection is a function with exactly these arguments.", es_form_name(form))));
	return function;
}

static char *
qualified_name(Oid function)
{
	return quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
									  get_func_name(function));
}

/* The name of a function as given, qualified. */
char *
es_code_qualify(const char *given, EsForm form, Oid event_type)
{
	return qualified_name(es_code_function(given, form, event_type, false));
}

/*
 * Does the name that is given stand for the function of that qualified name?  Never an
 * error: a name that stands for nothing, or for what cannot be the function of a
 * projection, stands for another one.
 */
bool
es_code_is_function(const char *given, const char *qualified, EsForm form, Oid event_type)
{
	List	   *parts;
	Oid			function;

	if (!SplitIdentifierString(pstrdup(given), '.', &parts))
		return false;
	if (list_length(parts) == 3 && strcmp(linitial(parts), get_database_name(MyDatabaseId)) == 0)
		parts = list_delete_first(parts);
	if (list_length(parts) == 2)
		return strcmp(quote_qualified_identifier(linitial(parts), lsecond(parts)), qualified) == 0;
	if (list_length(parts) != 1)
		return false;
	function = find_function(list_make1(makeString(linitial(parts))), form, event_type);
	return OidIsValid(function) && strcmp(qualified_name(function), qualified) == 0;
}

/* ---- what code names ---- */

/*
 * An object as the list of names has it; NULL for what is not listed, the store's
 * own among them.
 */
char *
es_code_identity(Oid class_id, Oid object_id)
{
	Oid			extension = get_extension_oid("eventstore", true);
	const char *kind;

	if (object_id < FirstNormalObjectId || !OidIsValid(extension) ||
		getExtensionOfObject(class_id, object_id) == extension)
		return NULL;
	if (class_id == ProcedureRelationId)
		return psprintf("function %s", format_procedure_qualified(object_id));
	switch (get_rel_relkind(object_id))
	{
		case RELKIND_RELATION:
		case RELKIND_PARTITIONED_TABLE:
			kind = "table";
			break;
		case RELKIND_FOREIGN_TABLE:
			kind = "foreign table";
			break;
		case RELKIND_VIEW:
			kind = "view";
			break;
		case RELKIND_MATVIEW:
			kind = "materialized view";
			break;
		default:
			return NULL;
	}
	return psprintf("%s %s", kind,
					quote_qualified_identifier(get_namespace_name(get_rel_namespace(object_id)),
											   get_rel_name(object_id)));
}

static void
add_object(Oid class_id, Oid object_id, List **named)
{
	char	   *identity = es_code_identity(class_id, object_id);
	ListCell   *lc;

	if (identity == NULL)
		return;
	foreach(lc, *named)
	{
		if (strcmp(lfirst(lc), identity) == 0)
			return;
	}
	*named = lappend(*named, identity);
}

void
es_code_add_function(Oid function, List **named)
{
	if (isAnyTempNamespace(get_func_namespace(function)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a projection cannot use the temporary function \"%s\"", get_func_name(function))));
	add_object(ProcedureRelationId, function, named);
}

static void
add_relation(Oid relation, List **named)
{
	if (get_rel_persistence(relation) == RELPERSISTENCE_TEMP)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("a projection cannot use the temporary table \"%s\"", get_rel_name(relation))));
	add_object(RelationRelationId, relation, named);
}

static bool
add_called(Oid function, void *context)
{
	es_code_add_function(function, context);
	return false;
}

static bool
add_names(Node *node, List **named)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
	{
		Query	   *query = (Query *) node;
		ListCell   *lc;

		foreach(lc, query->rtable)
		{
			RangeTblEntry *entry = lfirst(lc);

			if (entry->rtekind == RTE_RELATION)
				add_relation(entry->relid, named);
		}
		return query_tree_walker(query, add_names, named, 0);
	}
	(void) check_functions_in_node(node, add_called, named);
	return expression_tree_walker(node, add_names, named);
}

/* ---- statements ---- */

/* The text that is analysed: a position in it is not one in the caller's statement. */
typedef struct GivenText
{
	const char *argument;
	const char *text;
} GivenText;

static void
given_context(void *arg)
{
	const GivenText *given = arg;
	int			position = geterrposition();

	if (position > 0)
	{
		errposition(0);
		internalerrposition(position);
		internalerrquery(given->text);
	}
	errcontext("%s of the projection", given->argument);
}

static Query *
analyze_query(RawStmt *raw, const char *text, Oid event_type)
{
	QueryEnvironment *environment = create_queryEnv();
	EphemeralNamedRelationData relation = {
		.md = {
			.name = "es_batch",
			.reliddesc = InvalidOid,
			.enrtype = ENR_NAMED_TUPLESTORE,
			.enrtuples = 1
		}
	};

	if (OidIsValid(event_type))
	{
		relation.md.tupdesc = lookup_rowtype_tupdesc_copy(event_type, -1);
		register_ENR(environment, &relation);
	}
	return parse_analyze_fixedparams(raw, text, NULL, 0, environment);
}

/*
 * Is this one statement that can be a projection's query?  Adds what it names.
 */
void
es_code_analyze_query(const char *query, Oid event_type, List **named)
{
	GivenText	given = {"query", query};
	ErrorContextCallback callback = {error_context_stack, given_context, &given};
	List	   *statements;
	Query	   *analyzed;

	error_context_stack = &callback;
	statements = pg_parse_query(query);
	if (list_length(statements) != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query must be one statement")));
	analyzed = analyze_query(linitial_node(RawStmt, statements), query, event_type);
	if (analyzed->commandType == CMD_UTILITY)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("query must be an INSERT, UPDATE, DELETE, MERGE or SELECT")));
	(void) add_names((Node *) analyzed, named);
	error_context_stack = callback.previous;
}

/*
 * Can these statements empty a read model?  Adds what they name.
 */
void
es_code_analyze_reset(const char *reset, List **named)
{
	GivenText	given = {"reset", reset};
	ErrorContextCallback callback = {error_context_stack, given_context, &given};
	ListCell   *lc;

	error_context_stack = &callback;
	foreach(lc, pg_parse_query(reset))
	{
		RawStmt    *raw = lfirst_node(RawStmt, lc);

		if (IsA(raw->stmt, TransactionStmt))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("reset must not begin or end a transaction")));
		if (IsA(raw->stmt, TruncateStmt))
		{
			ListCell   *table;

			foreach(table, ((TruncateStmt *) raw->stmt)->relations)
				add_relation(RangeVarGetRelid(lfirst(table), NoLock, false), named);
		}
		else
			(void) add_names((Node *) analyze_query(raw, reset, InvalidOid), named);
	}
	error_context_stack = callback.previous;
}
