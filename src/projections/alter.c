/*
 * alter.c
 *		es_alter_projection: what a projection is told later.
 *
 * Locks: those of a statement about a projection (control.c).
 * Crash: the row belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/guc.h"

#include "compat/compat.h"
#include "core/args.h"
#include "core/role.h"
#include "core/spi.h"
#include "log/change.h"
#include "projections/code.h"
#include "projections/control.h"
#include "projections/declare.h"
#include "projections/owner.h"

PG_FUNCTION_INFO_V1(es_alter_projection);

/* Arguments of es_alter_projection */
enum
{
	ARG_NAME, ARG_BATCH_SIZE, ARG_ON_ERROR, ARG_MAX_RETRIES, ARG_RESET, ARG_OWNER
};

/* Change the row; a NULL leaves a setting as it is. */
static void
update_row(int id, FunctionCallInfo fcinfo, List *named)
{
	static EsStatement update = {
		"UPDATE eventstore.projection SET"
		" batch_size = coalesce($2, batch_size), on_error = coalesce($3, on_error),"
		" max_retries = coalesce($4, max_retries), reset = coalesce($5, reset), named = $6"
		" WHERE projection_id = $1",
		{INT4OID, INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTARRAYOID}
	};
	Datum		values[] = {
		Int32GetDatum(id), PG_GETARG_DATUM(ARG_BATCH_SIZE), PG_GETARG_DATUM(ARG_ON_ERROR),
		PG_GETARG_DATUM(ARG_MAX_RETRIES), PG_GETARG_DATUM(ARG_RESET), es_spi_texts(named)
	};
	bool		isnull[] = {
		false, PG_ARGISNULL(ARG_BATCH_SIZE), PG_ARGISNULL(ARG_ON_ERROR),
		PG_ARGISNULL(ARG_MAX_RETRIES), PG_ARGISNULL(ARG_RESET), false
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

static List *
names_as_before(const EsProjection *projection)
{
	List	   *named = NIL;

	for (int i = 0; i < projection->nnamed; i++)
		named = lappend(named, projection->named[i]);
	return named;
}

/* A role that the caller could give any object of his to. */
static Oid
new_owner(const char *name)
{
	Oid			role = get_role_oid(name, false);

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
	int			id = projection->id;
	char	   *reset = es_arg_text(fcinfo, ARG_RESET);
	Oid			owner = PG_ARGISNULL(ARG_OWNER) ? InvalidOid : new_owner(es_arg_text(fcinfo, ARG_OWNER));

	if (!PG_ARGISNULL(ARG_BATCH_SIZE))
		es_declare_check_batch_size(PG_GETARG_INT32(ARG_BATCH_SIZE));
	if (!PG_ARGISNULL(ARG_ON_ERROR))
		(void) es_declare_parse_on_error(es_arg_text(fcinfo, ARG_ON_ERROR));
	if (!PG_ARGISNULL(ARG_MAX_RETRIES))
		es_declare_check_max_retries(PG_GETARG_INT32(ARG_MAX_RETRIES));

	projection = OidIsValid(owner) ? es_control_lock_out(cat, projection, &progress) :
		es_control_lock(cat, projection, &progress);
	update_row(id, fcinfo,
			   reset != NULL ? names_with_reset(cat, projection, reset) : names_as_before(projection));
	if (OidIsValid(owner))
		es_owner_set(cat, es_definition_by_id(cat, id), owner);
	PG_RETURN_VOID();
}
