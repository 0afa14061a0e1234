/*
 * declare.c
 *		es_create_projection: from arguments to a row.
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
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "core/existing.h"
#include "core/spi.h"
#include "log/change.h"
#include "log/head.h"
#include "projections/code.h"
#include "projections/declare.h"
#include "projections/owner.h"
#include "projections/progress.h"
#include "projections/state.h"
#include "projections/switch.h"
#include "read/kept.h"

PG_FUNCTION_INFO_V1(es_create_projection);

#define MAX_BATCH_SIZE		1000000
#define MAX_RETRIES			1000

/* Arguments of es_create_projection */
enum
{
	ARG_NAME, ARG_HANDLER, ARG_QUERY, ARG_REDUCER, ARG_MODE, ARG_TYPES, ARG_CATEGORIES,
	ARG_PARTITION_BY, ARG_START_AFTER, ARG_BATCH_SIZE, ARG_ON_ERROR, ARG_MAX_RETRIES,
	ARG_RESET, ARG_IF_NOT_EXISTS, ARG_FILTER
};

/* What the arguments say. */
typedef struct Declaration
{
	EsName		name;
	EsForm		form;
	char	   *code;			/* a function as given, until analyze_code qualifies it */
	bool		is_inline;
	EsFilter	filter;			/* of the arguments types, categories and filter */
	char	   *partition_by;
	int64		start_after;
	int			batch_size;
	EsOnError	on_error;
	int			max_retries;
	char	   *reset;			/* NULL: none given */
	bool		if_not_exists;
	List	   *named;			/* by code and reset: see analyze_code */
} Declaration;

/* ---- arguments ---- */

static void
refuse_argument(const char *name, const char *value, const char *hint)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s \"%s\" is not valid", name, value),
			 errhint("%s", hint)));
}

void
es_declare_check_batch_size(int batch_size)
{
	es_arg_check_range("batch_size", batch_size, 1, MAX_BATCH_SIZE);
}

EsOnError
es_declare_parse_on_error(const char *on_error)
{
	EsOnError	parsed;

	if (!es_on_error_parse(on_error, &parsed))
		refuse_argument("on_error", on_error, "Use 'stop', 'skip' or 'park'.");
	return parsed;
}

void
es_declare_check_max_retries(int max_retries)
{
	es_arg_check_range("max_retries", max_retries, 0, MAX_RETRIES);
}

/* Which of handler, query and reducer was given: exactly one. */
static EsForm
form_argument(FunctionCallInfo fcinfo, char **code)
{
	EsForm		form = ES_FORM_HANDLER;
	int			given = 0;

	for (int i = 0; i < 3; i++)
	{
		if (PG_ARGISNULL(ARG_HANDLER + i))
			continue;
		given++;
		form = (EsForm) i;
		*code = es_arg_text(fcinfo, ARG_HANDLER + i);
	}
	if (given != 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a projection has one of handler, query and reducer")));
	return form;
}

static bool
inline_argument(FunctionCallInfo fcinfo)
{
	char	   *mode;

	es_arg_require(fcinfo, ARG_MODE, "mode");
	mode = es_arg_text(fcinfo, ARG_MODE);
	if (strcmp(mode, "inline") != 0 && strcmp(mode, "async") != 0)
		refuse_argument("mode", mode, "Use 'inline' or 'async'.");
	return strcmp(mode, "inline") == 0;
}

/* What the arguments say, checked as far as no other object is concerned. */
static Declaration
parse_projection(FunctionCallInfo fcinfo)
{
	Declaration new = {.name = es_arg_name(fcinfo, ARG_NAME, "name")};

	new.form = form_argument(fcinfo, &new.code);
	new.is_inline = inline_argument(fcinfo);
	es_name_check(new.name, "projection");
	new.filter = es_kept_arguments(fcinfo, ARG_TYPES, ARG_CATEGORIES, ARG_FILTER);
	es_arg_require(fcinfo, ARG_PARTITION_BY, "partition_by");
	new.partition_by = es_arg_text(fcinfo, ARG_PARTITION_BY);
	es_state_check_partition(new.partition_by);
	es_arg_require(fcinfo, ARG_START_AFTER, "start_after");
	new.start_after = es_arg_place(fcinfo, ARG_START_AFTER, "start_after", 0);
	es_arg_require(fcinfo, ARG_BATCH_SIZE, "batch_size");
	new.batch_size = PG_GETARG_INT32(ARG_BATCH_SIZE);
	es_declare_check_batch_size(new.batch_size);
	es_arg_require(fcinfo, ARG_ON_ERROR, "on_error");
	new.on_error = es_declare_parse_on_error(es_arg_text(fcinfo, ARG_ON_ERROR));
	es_arg_require(fcinfo, ARG_MAX_RETRIES, "max_retries");
	new.max_retries = PG_GETARG_INT32(ARG_MAX_RETRIES);
	es_declare_check_max_retries(new.max_retries);
	new.reset = es_arg_text(fcinfo, ARG_RESET);
	es_arg_require(fcinfo, ARG_IF_NOT_EXISTS, "if_not_exists");
	new.if_not_exists = PG_GETARG_BOOL(ARG_IF_NOT_EXISTS);
	return new;
}

/* Find what the code and the reset name; a function is known by its qualified name. */
static void
analyze_code(const EsCatalog *cat, Declaration *new)
{
	if (new->form == ES_FORM_QUERY)
		es_code_analyze_query(new->code, cat->event, &new->named);
	else
	{
		new->code = es_code_qualify(new->code, new->form, cat->event);
		es_code_add_function(es_code_function(new->code, new->form, cat->event, false), &new->named);
	}
	if (new->reset != NULL)
		es_code_analyze_reset(new->reset, &new->named);
}

/* ---- the row ---- */

static int
draw_id(void)
{
	static EsStatement draw = {"SELECT nextval('eventstore.projection_ids')::int"};
	EsSpi		spi;
	bool		null;
	int			id;

	es_spi_begin(&spi);
	(void) es_spi_run(&draw, NULL, NULL);
	id = DatumGetInt32(es_spi_value(1, 1, &null));
	es_spi_end(&spi);
	return id;
}

/*
 * Make the row, and what carries its owner before it.  Waits for whoever is making one of
 * the same name.  0: there is one.
 */
static int
insert_projection(const EsCatalog *cat, FunctionCallInfo fcinfo, const Declaration *new)
{
	static EsStatement insert = {
		"INSERT INTO eventstore.projection"
		" (projection_id, name, owner, search_path, form, code, mode, types, categories, filter,"
		"  partition_by, start_after, batch_size, on_error, max_retries, reset, named, state, live, since)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17,"
		"  'running', false, clock_timestamp())"
		" ON CONFLICT (name) DO NOTHING",
		{INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTARRAYOID, TEXTARRAYOID, JSONBOID,
		TEXTOID, INT8OID, INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTARRAYOID}
	};
	int			id = draw_id();
	char	   *name = pnstrdup(new->name.bytes, new->name.len);
	bool		reset = new->reset != NULL;
	NullableDatum row[] = {
		{Int32GetDatum(id)},
		{CStringGetTextDatum(name)},
		{CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))},
		{CStringGetTextDatum(namespace_search_path)},
		{CStringGetTextDatum(es_form_name(new->form))},
		{CStringGetTextDatum(new->code)},
		{CStringGetTextDatum(new->is_inline ? "inline" : "async")},
		fcinfo->args[ARG_TYPES],
		fcinfo->args[ARG_CATEGORIES],
		fcinfo->args[ARG_FILTER],
		{CStringGetTextDatum(new->partition_by)},
		{Int64GetDatum(new->start_after)},
		{Int32GetDatum(new->batch_size)},
		fcinfo->args[ARG_ON_ERROR],
		{Int32GetDatum(new->max_retries)},
		{reset ? CStringGetTextDatum(new->reset) : 0, !reset},
		{es_spi_texts(new->named)}
	};
	Datum		values[lengthof(row)];
	bool		isnull[lengthof(row)];
	bool		inserted;
	EsSpi		spi;

	for (int i = 0; i < lengthof(row); i++)
	{
		values[i] = row[i].value;
		isnull[i] = row[i].isnull;
	}
	es_owner_create(cat, id, name, GetUserId());
	es_spi_begin(&spi);
	inserted = es_spi_run(&insert, values, isnull) > 0;
	es_spi_end(&spi);
	CommandCounterIncrement();
	if (!inserted)
		es_carrier_drop(es_carrier_find(cat->schema, ES_CARRIES_PROJECTION, id, SnapshotSelf).function);
	return inserted ? id : 0;
}

/* ---- the projection that is there already ---- */

/* Is the code that was given, which may not be analysed, that of the projection? */
static bool
same_code(const EsCatalog *cat, const EsProjection *existing, const Declaration *new)
{
	if (existing->form != new->form)
		return false;
	return new->form == ES_FORM_QUERY ? strcmp(new->code, existing->code) == 0 :
		es_code_is_function(new->code, existing->code, new->form, cat->event);
}

static bool
same_reset(const char *existing, const char *new)
{
	if (existing == NULL || new == NULL)
		return existing == new;
	return strcmp(existing, new) == 0;
}

/*
 * In what a projection that there is differs from what was asked for: arguments, and what
 * a new one would take from the session.  Nothing is an error here.
 */
static List *
projection_differences(const EsCatalog *cat, const EsProjection *existing, const Declaration *new)
{
	List	   *differing = NIL;

	es_existing_differs(&differing, !same_code(cat, existing, new), es_form_name(new->form));
	es_existing_differs(&differing, existing->is_inline != new->is_inline, "mode");
	es_kept_compare(&existing->filter, &new->filter, &differing);
	es_existing_differs(&differing, strcmp(existing->partition_by, new->partition_by) != 0, "partition_by");
	es_existing_differs(&differing, existing->start_after != new->start_after, "start_after");
	es_existing_differs(&differing, existing->batch_size != new->batch_size, "batch_size");
	es_existing_differs(&differing, existing->on_error != new->on_error, "on_error");
	es_existing_differs(&differing, existing->max_retries != new->max_retries, "max_retries");
	es_existing_differs(&differing, !same_reset(existing->reset, new->reset), "reset");
	es_existing_differs(&differing, existing->carrier.owner != GetUserId(), "owner");
	es_existing_differs(&differing, strcmp(existing->search_path, namespace_search_path) != 0, "search_path");
	return differing;
}

/*
 * There is one of that name; "existing" is NULL if it has been dropped meanwhile.  In what it
 * differs is for those who may act as its owner: others could guess by it what it is.
 */
static void
tell_projection_exists(const EsCatalog *cat, const EsProjection *existing, const Declaration *new)
{
	es_existing_tell("projection", new->name, new->if_not_exists,
					 new->if_not_exists && existing != NULL &&
					 has_privs_of_role(GetUserId(), existing->carrier.owner) ?
					 projection_differences(cat, existing, new) : NIL);
}

/* ---- es_create_projection ---- */

/* Make the projection, whose code is analysed, unless there is one of that name. */
static void
store_declaration(const EsCatalog *cat, FunctionCallInfo fcinfo, const Declaration *new)
{
	int			id = insert_projection(cat, fcinfo, new);

	if (id == 0)
	{
		/* who made it has committed, but perhaps not yet told of it */
		(void) es_definitions_anew(cat);
		tell_projection_exists(cat, es_definition_by_name(cat, new->name), new);
		return;
	}
	es_kept_tell_doubts(cat, &new->filter);
	es_progress_create(id, new->start_after);
	CommandCounterIncrement();
	if (new->is_inline)
		(void) es_switch_try(cat, id);
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
	Declaration new = parse_projection(fcinfo);
	const EsProjection *existing = es_definition_by_name(cat, new.name);

	if (existing != NULL)
	{
		tell_projection_exists(cat, existing, &new);
		PG_RETURN_VOID();
	}
	es_head_refuse_ahead(cat, new.start_after);
	analyze_code(cat, &new);
	store_declaration(cat, fcinfo, &new);
	PG_RETURN_VOID();
}
