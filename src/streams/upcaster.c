/*
 * upcaster.c
 *		Which upcasters there are: registering them, dropping them, knowing them.
 *
 * An upcaster is a function for the events of one type and schema version: what it
 * makes of their data is shown under another schema version, and another type if
 * it renames.  What it gives may have an upcaster again: a chain.  upcast.c applies
 * them.
 *
 * Each backend keeps the list (core/table_cache.c).
 *
 * Invariant
 * 1. Registering follows the chain and refuses a circle, under a lock that keeps other
 *    registrations away.
 *
 * Locks: AccessShare on eventstore.upcaster; ShareRowExclusive to register.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "parser/parse_func.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/regproc.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/args.h"
#include "core/spi.h"
#include "core/table_cache.h"
#include "log/dictionary.h"
#include "streams/lifecycle.h"
#include "streams/upcaster.h"

PG_FUNCTION_INFO_V1(es_register_upcaster);
PG_FUNCTION_INFO_V1(upcasters_changed);

/* Columns of eventstore.upcaster */
enum
{
	COL_TYPE = 1, COL_FROM_SCHEMA, COL_TO_TYPE, COL_TO_SCHEMA, COL_FUNCTION, COL_OWNER,
	COL_SEARCH_PATH
};

static EsStatement store_upcaster = {
	"INSERT INTO eventstore.upcaster (type, from_schema, to_type, to_schema, function, owner, search_path)"
	" VALUES ($1, $2, $3, $4, $5, $6, $7)"
	" ON CONFLICT (type, from_schema) DO UPDATE"
	" SET to_type = $3, to_schema = $4, function = $5, owner = $6, search_path = $7",
	{TEXTOID, INT4OID, TEXTOID, INT4OID, TEXTOID, TEXTOID, TEXTOID}
};

static EsStatement remove_upcaster = {
	"DELETE FROM eventstore.upcaster WHERE type = $1 AND from_schema = $2", {TEXTOID, INT4OID}
};

/* ---- the list ---- */

/*
 * eventstore.upcasters_changed() → trigger
 */
Datum
upcasters_changed(PG_FUNCTION_ARGS)
{
	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("eventstore.upcasters_changed can only be called as a trigger")));
	CacheInvalidateRelcache(((TriggerData *) fcinfo->context)->tg_relation);
	return PointerGetDatum(NULL);
}

static EsName
name_of(char *string)
{
	EsName		name = {string, strlen(string)};

	return name;
}

static char *
text_of(TupleTableSlot *row, int column)
{
	bool		isnull;

	return TextDatumGetCString(slot_getattr(row, column, &isnull));
}

static int32
number_of(TupleTableSlot *row, int column)
{
	bool		isnull;

	return DatumGetInt32(slot_getattr(row, column, &isnull));
}

static void
read_upcaster(TupleTableSlot *row, EsUpcaster *upcaster)
{
	upcaster->type = name_of(text_of(row, COL_TYPE));
	upcaster->from_schema = number_of(row, COL_FROM_SCHEMA);
	upcaster->to_type = name_of(text_of(row, COL_TO_TYPE));
	upcaster->to_schema = number_of(row, COL_TO_SCHEMA);
	upcaster->function = text_of(row, COL_FUNCTION);
	upcaster->owner = text_of(row, COL_OWNER);
	upcaster->search_path = text_of(row, COL_SEARCH_PATH);
}

/* The upcasters, as they are read. */
typedef struct UpcasterList
{
	int			n;
	EsUpcaster *list;
} UpcasterList;

static void *
read_upcasters(TableScanDesc scan, TupleTableSlot *slot)
{
	UpcasterList *found = palloc0(sizeof(UpcasterList));
	int			capacity = 4;

	found->list = palloc(sizeof(EsUpcaster) * capacity);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		if (found->n == capacity)
			found->list = repalloc(found->list, sizeof(EsUpcaster) * (capacity *= 2));
		read_upcaster(slot, &found->list[found->n++]);
	}
	return found;
}

static EsTableCache cache = {"eventstore upcasters", read_upcasters};

void
es_upcaster_init(void)
{
	es_table_cache_init(&cache);
}

/*
 * The upcasters, for a call that ends with the current memory context, and pinned until
 * then: the functions that it calls may do anything.  NULL: there are none.
 */
EsUpcasts *
es_upcasts_begin(const EsCatalog *cat)
{
	const UpcasterList *all = es_table_cache_rows(&cache, cat->upcaster);
	EsUpcasts  *upcasts;

	if (all->n == 0)
		return NULL;
	es_table_cache_pin(&cache);
	upcasts = palloc0(sizeof(EsUpcasts));
	upcasts->context = CurrentMemoryContext;
	upcasts->n = all->n;
	upcasts->list = all->list;
	upcasts->calls = palloc0(sizeof(FmgrInfo *) * all->n);
	return upcasts;
}

const EsUpcaster *
es_upcaster_find(const EsUpcasts *upcasts, EsName type, int32 schema_version)
{
	for (int i = 0; i < upcasts->n; i++)
	{
		const EsUpcaster *upcaster = &upcasts->list[i];

		if (upcaster->from_schema == schema_version && es_name_equal(upcaster->type, type))
			return upcaster;
	}
	return NULL;
}

/* ---- functions ---- */

Oid
es_upcaster_function(const char *name)
{
	Oid			types[2] = {JSONBOID, JSONBOID};
	Oid			function = LookupFuncName(es_compat_name_list(name), 2, types, true);

	if (!OidIsValid(function))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function %s(data jsonb, metadata jsonb) does not exist", name),
				 errhint("An upcaster is a function with exactly these arguments.")));
	if (get_func_prokind(function) != PROKIND_FUNCTION || get_func_retset(function) ||
		get_func_rettype(function) != JSONBOID)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("%s is not a plain function that returns jsonb", name)));
	return function;
}

void
es_upcaster_require_execute(Oid function, const char *name)
{
	AclResult	allowed = es_compat_function_acl(function, ACL_EXECUTE);

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, name);
}

/* ---- dropping ---- */

/*
 * A function is about to be dropped, all names qualified.  If it is an
 * upcaster, that is refused, or with CASCADE the upcaster goes along.
 */
void
es_upcaster_before_drop(const EsCatalog *cat, const char *function, bool cascade)
{
	EsUpcasts  *upcasts = es_upcasts_begin(cat);
	EsSpi		spi;

	for (int i = 0; upcasts != NULL && i < upcasts->n; i++)
	{
		const EsUpcaster *upcaster = &upcasts->list[i];
		Datum		values[2] = {
			PointerGetDatum(cstring_to_text_with_len(upcaster->type.bytes, upcaster->type.len)),
			Int32GetDatum(upcaster->from_schema)
		};

		if (strcmp(psprintf("%s(pg_catalog.jsonb,pg_catalog.jsonb)", upcaster->function), function) != 0)
			continue;
		if (!cascade)
			ereport(ERROR,
					(errcode(ERRCODE_DEPENDENT_OBJECTS_STILL_EXIST),
					 errmsg("cannot drop function %s because the upcaster of type \"" ES_NAME_FORMAT "\", schema version %d, depends on it",
							function, ES_NAME_ARGS(upcaster->type), upcaster->from_schema),
					 errhint("Register another function first, or use DROP ... CASCADE to show these events as they are stored.")));
		ereport(NOTICE,
				(errmsg("drop cascades to the upcaster of type \"" ES_NAME_FORMAT "\", schema version %d",
						ES_NAME_ARGS(upcaster->type), upcaster->from_schema)));
		es_spi_begin(&spi);
		(void) es_spi_run(&remove_upcaster, values, NULL);
		es_spi_end(&spi);
	}
}

/* ---- registering ---- */

static int32
schema_argument(FunctionCallInfo fcinfo, int argno, const char *name)
{
	int32		schema_version = PG_GETARG_INT32(argno);

	if (schema_version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be at least 1", name)));
	return schema_version;
}

/* Somebody else's upcaster is not replaced. */
static void
require_ownership(const EsUpcaster *former)
{
	Oid			owner = get_role_oid(former->owner, true);

	if (!superuser() && (!OidIsValid(owner) || !has_privs_of_role(GetUserId(), owner)))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of the upcaster of type \"" ES_NAME_FORMAT "\", schema version %d",
						ES_NAME_ARGS(former->type), former->from_schema)));
}

/* Would the new one close a circle (1)? */
static void
refuse_circle(const EsUpcasts *upcasts, const EsUpcaster *new)
{
	const EsUpcaster *next = new;

	for (int steps = 0; next != NULL; steps++)
	{
		if ((next->to_schema == new->from_schema && es_name_equal(next->to_type, new->type)) ||
			(upcasts != NULL && steps > upcasts->n))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("upcasters of type \"" ES_NAME_FORMAT "\" would go round in a circle",
							ES_NAME_ARGS(new->type))));
		next = upcasts != NULL ? es_upcaster_find(upcasts, next->to_type, next->to_schema) : NULL;
	}
}

/* Does any event, as far as is known, have this type and schema version? */
static bool
is_stored(const EsCatalog *cat, EsName type, int32 schema_version)
{
	EsEventTypes found = {0};
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	es_dictionary_of_type(cat, snapshot, type, &found);
	UnregisterSnapshot(snapshot);
	for (int i = 0; i < found.n; i++)
	{
		if (found.types[i].schema_version == schema_version)
			return true;
	}
	return false;
}

/*
 * Another name: filters by it take more than before, but what a projection or a
 * subscription has passed it does not see again.
 */
static void
tell_new_name(const EsCatalog *cat, const EsUpcaster *former, const EsUpcaster *new)
{
	if (es_name_equal(new->type, new->to_type) ||
		(former != NULL && es_name_equal(former->to_type, new->to_type)) ||
		!is_stored(cat, new->type, new->from_schema))
		return;
	ereport(NOTICE,
			(errmsg("filters by type \"" ES_NAME_FORMAT "\" take events stored as \"" ES_NAME_FORMAT "\", schema version %d, from now on",
					ES_NAME_ARGS(new->to_type), ES_NAME_ARGS(new->type), new->from_schema),
			 errhint("Where such a filter has passed these events, es_rebuild_projection() or es_seek_subscription() brings them.")));
}

/*
 * es_register_upcaster(type, from_schema, upcast, to_type, to_schema)
 */
Datum
es_register_upcaster(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_lifecycle_begin("es_register_upcaster()");
	EsUpcaster	new = {.type = es_arg_name(fcinfo, 0, "type")};
	const EsUpcaster *former;
	EsUpcasts  *upcasts;
	char	   *given;
	Oid			function;
	Datum		values[7];
	EsSpi		spi;

	es_name_check(new.type, "type");
	es_arg_require(fcinfo, 1, "from_schema");
	new.from_schema = schema_argument(fcinfo, 1, "from_schema");
	es_arg_require(fcinfo, 2, "upcast");
	given = text_to_cstring(PG_GETARG_TEXT_PP(2));
	new.to_type = PG_ARGISNULL(3) ? new.type : es_name_from_text(PG_GETARG_DATUM(3));
	es_name_check(new.to_type, "to_type");
	if (PG_ARGISNULL(4) && new.from_schema == PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("there is no schema version after %d", new.from_schema)));
	new.to_schema = PG_ARGISNULL(4) ? new.from_schema + 1 : schema_argument(fcinfo, 4, "to_schema");

	function = es_upcaster_function(given);
	es_upcaster_require_execute(function, given);
	if (isAnyTempNamespace(get_func_namespace(function)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("an upcaster cannot be the temporary function \"%s\"", get_func_name(function))));
	new.function = quote_qualified_identifier(get_namespace_name(get_func_namespace(function)),
											  get_func_name(function));

	LockRelationOid(cat->upcaster, ShareRowExclusiveLock);	/* (1) */
	upcasts = es_upcasts_begin(cat);
	refuse_circle(upcasts, &new);
	former = upcasts != NULL ? es_upcaster_find(upcasts, new.type, new.from_schema) : NULL;
	if (former != NULL)
		require_ownership(former);
	tell_new_name(cat, former, &new);

	values[0] = PG_GETARG_DATUM(0);
	values[1] = Int32GetDatum(new.from_schema);
	values[2] = PointerGetDatum(cstring_to_text_with_len(new.to_type.bytes, new.to_type.len));
	values[3] = Int32GetDatum(new.to_schema);
	values[4] = CStringGetTextDatum(new.function);
	values[5] = CStringGetTextDatum(GetUserNameFromId(GetUserId(), false));
	values[6] = CStringGetTextDatum(namespace_search_path);
	es_spi_begin(&spi);
	(void) es_spi_run(&store_upcaster, values, NULL);
	es_spi_end(&spi);
	PG_RETURN_VOID();
}
