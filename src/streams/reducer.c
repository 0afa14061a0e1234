/*
 * reducer.c
 *		Which definition of a reducer a snapshot was made by.
 *
 * es_aggregate begins with the snapshot whose kind is the name of the reducer.  When the
 * reducer is replaced, the new one must not go on with a state that the old one has made.  So
 * a digest of the definition is kept with the snapshot: of the whole statement that would
 * create the function, as pg_dump has it, which is the same after a dump and restore.
 *
 * What is not noticed: another definition of something that the function calls, and another
 * library behind one in C.  A digest that differs for no good reason costs a fold from the
 * first event, and the result is right.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "nodes/value.h"
#include "parser/parse_func.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/varlena.h"

#include "compat/compat.h"
#include "core/digest.h"
#include "streams/reducer.h"

/* The digest of a function's definition, with names of all other schemas' objects qualified. */
bytea *
es_reducer_digest(Oid function)
{
	EsRoleScope scope;
	char	   *definition;

	es_role_enter(&scope, GetUserId(), "pg_catalog", 0);
	definition = TextDatumGetCString(DirectFunctionCall1(pg_get_functiondef, ObjectIdGetDatum(function)));
	es_role_leave(&scope);
	return es_digest_text(definition);
}

/* May the caller look for functions there? */
static bool
can_use_schema(const char *name)
{
	Oid			schema = get_namespace_oid(name, true);

	return OidIsValid(schema) && es_compat_schema_acl(schema, ACL_USAGE) == ACLCHECK_OK;
}

/*
 * The same of the reducer of a name, as the caller's search_path finds it; NULL: there is
 * none.  The name may be anything, for a snapshot's kind may.
 */
bytea *
es_reducer_digest_by_name(const EsCatalog *cat, const char *name)
{
	List	   *parts;
	List	   *names = NIL;
	Oid			types[2] = {JSONBOID, cat->event};
	Oid			function;
	ListCell   *lc;

	if (!SplitIdentifierString(pstrdup(name), '.', &parts) || parts == NIL || list_length(parts) > 2)
		return NULL;
	if (list_length(parts) == 2 && !can_use_schema(linitial(parts)))
		return NULL;
	foreach(lc, parts)
		names = lappend(names, makeString(lfirst(lc)));
	function = LookupFuncName(names, 2, types, true);
	if (!OidIsValid(function) || get_func_prokind(function) != PROKIND_FUNCTION ||
		get_func_retset(function) || get_func_rettype(function) != JSONBOID)
		return NULL;
	return es_reducer_digest(function);
}
