/*
 * declare.c
 *		es_create_projection and es_alter_projection: from arguments to a row.
 *
 * All is checked that can be: functions by their signature, statements by analysing
 * them, so that the error is the one's who declares.  What the code may do is checked
 * when it runs, with the rights of the role that declared it.
 *
 * Locks: event_log; the rows that it makes are seen by nobody else yet.
 * Crash: the row belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/args.h"
#include "core/spi.h"
#include "log/change.h"
#include "log/head.h"
#include "projections/code.h"
#include "projections/control.h"
#include "projections/owner.h"
#include "projections/state.h"
#include "projections/switch.h"
#include "read/wanted.h"

PG_FUNCTION_INFO_V1(es_create_projection);
PG_FUNCTION_INFO_V1(es_alter_projection);

#define MAX_BATCH_SIZE		1000000
#define MAX_RETRIES			1000

static char *
text_argument(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

static void
refuse_argument(const char *name, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s \"%s\" is not valid", name, value),
			 errhint("%s", hint)));
}

static void
check_on_error(const char *on_error)
{
	EsOnError	parsed;

	if (!es_on_error_parse(on_error, &parsed))
		refuse_argument("on_error", on_error, "Use 'stop', 'skip' or 'park'.");
}

/* Which of handler, query and reducer was given: exactly one. */
static EsForm
form_argument(FunctionCallInfo fcinfo, int first, char **code)
{
	EsForm		form = ES_FORM_HANDLER;
	int			given = 0;

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(first + i))
			continue;
		given++;
		form = (EsForm) i;
		*code = text_argument(fcinfo, first + i);
	}
	if (given != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a projection has one of handler, query and reducer")));
	return form;
}

static bool
inline_argument(FunctionCallInfo fcinfo, int argno)
{
	char	   *mode;

	es_arg_require(fcinfo, argno, "mode");
	mode = text_argument(fcinfo, argno);
	if (strcmp(mode, "inline") != 0 && strcmp(mode, "async") != 0)
		refuse_argument("mode", mode, "Use 'inline' or 'async'.");
	return strcmp(mode, "inline") == 0;
}

static Datum
text_array(List *texts)
{
	ArrayBuildState *array = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ListCell   *lc;

	foreach(lc, texts)
		accumArrayResult(array, CStringGetTextDatum(lfirst(lc)), false, TEXTOID, CurrentMemoryContext);
	return makeArrayResult(array, CurrentMemoryContext);
}

/*
 * Make the row, and what carries its owner before it.  Waits for whoever is making one of
 * the same name.  0: there is one.
 */
static int
insert_row(const EsCatalog *cat, const char *name, Datum *values, const bool *isnull)
{
	static EsStatement draw = {"SELECT nextval('eventstore.projection_ids')::int"};
	static EsStatement insert = {
		"INSERT INTO eventstore.projection"
		" (projection_id, name, owner, search_path, form, code, mode, types, categories, partition_by,"
		"  start_after, batch_size, on_error, max_retries, reset, named, state, live, since, filter)"
		" SELECT $10, $1[1], $1[2], $1[3], $1[4], $1[5], $1[6], $2, $3, $1[7],"
		"  $4, $5, $1[8], $6, $7, $8, 'running', false, clock_timestamp(), $9"
		" ON CONFLICT (name) DO NOTHING",
		{TEXTARRAYOID, TEXTARRAYOID, TEXTARRAYOID, INT8OID, INT4OID, INT4OID, TEXTOID, TEXTARRAYOID, JSONBOID, INT4OID}
	};
	EsSpi		spi;
	bool		null;
	bool		inserted;
	int			id;

	es_spi_begin(&spi);
	(void) es_spi_run(&draw, NULL, NULL);
	values[9] = es_spi_value(1, 1, &null);
	es_spi_end(&spi);
	id = DatumGetInt32(values[9]);
	es_owner_create(cat, id, name, GetUserId());
	es_spi_begin(&spi);
	inserted = es_spi_run(&insert, values, isnull) > 0;
	es_spi_end(&spi);
	CommandCounterIncrement();
	if (!inserted)
		es_carrier_drop(es_carrier_find(cat->schema, ES_CARRIES_PROJECTION, id, SnapshotSelf).function);
	return inserted ? id : 0;
}

static bool
there_is_one(EsName name, bool if_not_exists)
{
	ereport(if_not_exists ? NOTICE : ERROR,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 if_not_exists ?
			 errmsg("projection \"" ES_NAME_FORMAT "\" already exists, skipping", ES_NAME_ARGS(name)) :
			 errmsg("projection \"" ES_NAME_FORMAT "\" already exists", ES_NAME_ARGS(name))));
	return true;
}

/*
 * es_create_projection(name, handler, query, reducer, mode, types, categories,
 *						partition_by, start_after, batch_size, on_error, max_retries,
 *						reset, if_not_exists, filter)
 */
Datum
es_create_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_create_projection()");
	EsName		name = es_arg_name(fcinfo, 0, "name");
	char	   *code = NULL;
	EsForm		form = form_argument(fcinfo, 1, &code);
	bool		is_inline = inline_argument(fcinfo, 4);
	char	   *partition_by;
	int64		start_after;
	char	   *on_error;
	char	   *reset = text_argument(fcinfo, 12);
	List	   *named = NIL;
	List	   *texts;
	Datum		values[10];
	bool		isnull[10] = {false};
	int			id;

	es_name_check(name, "projection");
	es_wanted_check_arguments(fcinfo, 5, 6, 14);
	es_arg_require(fcinfo, 7, "partition_by");
	partition_by = text_argument(fcinfo, 7);
	es_state_check_partition(partition_by);
	es_arg_require(fcinfo, 8, "start_after");
	start_after = es_arg_place(fcinfo, 8, "start_after", 0);
	es_arg_require(fcinfo, 9, "batch_size");
	es_arg_check_range("batch_size", PG_GETARG_INT32(9), 1, MAX_BATCH_SIZE);
	es_arg_require(fcinfo, 10, "on_error");
	on_error = text_argument(fcinfo, 10);
	check_on_error(on_error);
	es_arg_require(fcinfo, 11, "max_retries");
	es_arg_check_range("max_retries", PG_GETARG_INT32(11), 0, MAX_RETRIES);
	es_arg_require(fcinfo, 13, "if_not_exists");

	if (es_definition_by_name(cat, name) != NULL && there_is_one(name, PG_GETARG_BOOL(13)))
		PG_RETURN_VOID();
	es_head_refuse_ahead(cat, start_after);
	if (form == ES_FORM_QUERY)
		es_code_analyze_query(code, cat->event, &named);
	else
	{
		code = es_code_qualify(code, form, cat->event);
		es_code_add_function(es_code_function(code, form, cat->event, false), &named);
	}
	if (reset != NULL)
		es_code_analyze_reset(reset, &named);

	texts = list_make5(pnstrdup(name.bytes, name.len), GetUserNameFromId(GetUserId(), false),
					   namespace_search_path, (char *) es_form_name(form), code);
	texts = lappend(texts, is_inline ? "inline" : "async");
	texts = lappend(lappend(texts, partition_by), on_error);
	values[0] = text_array(texts);
	isnull[1] = PG_ARGISNULL(5);
	values[1] = PG_GETARG_DATUM(5);
	isnull[2] = PG_ARGISNULL(6);
	values[2] = PG_GETARG_DATUM(6);
	values[3] = Int64GetDatum(start_after);
	values[4] = PG_GETARG_DATUM(9);
	values[5] = PG_GETARG_DATUM(11);
	isnull[6] = reset == NULL;
	values[6] = PG_GETARG_DATUM(12);
	values[7] = text_array(named);
	isnull[8] = PG_ARGISNULL(14);
	values[8] = PG_GETARG_DATUM(14);
	id = insert_row(cat, pnstrdup(name.bytes, name.len), values, isnull);
	if (id == 0 && there_is_one(name, PG_GETARG_BOOL(13)))
		PG_RETURN_VOID();
	es_progress_create(id, start_after);
	CommandCounterIncrement();
	if (is_inline)
		(void) es_switch_try(cat, id);
	PG_RETURN_VOID();
}

static void
update_row(int id, const Datum *values, const bool *isnull)
{
	static EsStatement update = {
		"UPDATE eventstore.projection SET"
		" batch_size = coalesce($2, batch_size), on_error = coalesce($3, on_error),"
		" max_retries = coalesce($4, max_retries), reset = coalesce($5, reset), named = $6"
		" WHERE projection_id = $1",
		{INT4OID, INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTARRAYOID}
	};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&update, values, isnull);
	es_spi_end(&spi);
	CommandCounterIncrement();
}

/* What the projection's code names, and a reset: as its search_path finds it. */
static List *
names_with_reset(const EsCatalog *cat, const EsProjection *projection, const char *reset)
{
	List	   *named = NIL;
	int			level = NewGUCNestLevel();
	Oid			function;

	es_role_set_search_path(projection->search_path);

	if (projection->form == ES_FORM_QUERY)
		es_code_analyze_query(projection->code, cat->event, &named);
	else
	{
		function = es_code_function(projection->code, projection->form, cat->event, true);
		if (OidIsValid(function))
			es_code_add_function(function, &named);
	}
	es_code_analyze_reset(reset, &named);
	AtEOXact_GUC(false, level);
	return named;
}

/* A role that the caller could give any object of his to. */
static Oid
new_owner(FunctionCallInfo fcinfo, int argno)
{
	Oid			role = get_role_oid(text_argument(fcinfo, argno), false);

	es_compat_require_new_owner(role);
	return role;
}

/*
 * es_alter_projection(name, batch_size, on_error, max_retries, reset, owner)
 */
Datum
es_alter_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_alter_projection()");
	const EsProjection *projection = es_control_find(cat, fcinfo);
	EsProgress	progress;
	Datum		values[6];
	bool		isnull[6] = {false};
	List	   *named = NIL;
	Oid			owner = PG_ARGISNULL(5) ? InvalidOid : new_owner(fcinfo, 5);

	if (!PG_ARGISNULL(1))
		es_arg_check_range("batch_size", PG_GETARG_INT32(1), 1, MAX_BATCH_SIZE);
	if (!PG_ARGISNULL(2))
		check_on_error(text_argument(fcinfo, 2));
	if (!PG_ARGISNULL(3))
		es_arg_check_range("max_retries", PG_GETARG_INT32(3), 0, MAX_RETRIES);

	projection = OidIsValid(owner) ? es_control_lock_out(cat, projection, &progress) :
		es_control_lock(cat, projection, &progress);
	if (!PG_ARGISNULL(4))
		named = names_with_reset(cat, projection, text_argument(fcinfo, 4));
	else
	{
		for (int i = 0; i < projection->nnamed; i++)
			named = lappend(named, projection->named[i]);
	}
	values[0] = Int32GetDatum(projection->id);
	for (int i = 1; i <= 4; i++)
	{
		values[i] = PG_GETARG_DATUM(i);
		isnull[i] = PG_ARGISNULL(i);
	}
	values[5] = text_array(named);
	update_row(projection->id, values, isnull);
	if (OidIsValid(owner))
		es_owner_set(cat, es_definition_by_id(cat, DatumGetInt32(values[0])), owner);
	PG_RETURN_VOID();
}
