/*
 * catalog.c
 *		Where the store's relations are, cached for the life of a backend.
 *
 * Every call needs the OIDs of a dozen relations.  They are looked up by name
 * once and kept until an invalidation message says that one of them, or the
 * schema, has changed.  CREATE EXTENSION, DROP EXTENSION and their rollback all
 * send such messages, so an OID kept here is that of the store which this
 * transaction sees.
 *
 * Invariants
 * 1. A store is what the extension made: relations of the right kind that are its
 *    members, and their indexes.
 * 2. es_catalog_lock comes first in every call: with a lock on event_log, held to
 *    the end of the transaction, the other relations stay, for whoever drops the
 *    extension must take AccessExclusiveLock on it.
 * 3. After another table has been locked, es_catalog_refresh: the OIDs of its
 *    indexes may have changed until then (REINDEX CONCURRENTLY).
 * 4. What is kept, or found missing, was looked up without an invalidation in
 *    between.
 * 5. generation changes whenever the OIDs may have changed, and with the storage of
 *    event_type, which es_reset() makes anew; caches that hang on the store's contents (the
 *    dictionary, the names of streams) compare it.
 *
 * Callbacks get the OID of the relation, or InvalidOid for "everything"
 * (utils/cache/inval.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/dependency.h"
#include "catalog/index.h"
#include "catalog/namespace.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "core/catalog.h"

static EsCatalog catalog;
static bool catalog_valid = false;
static uint64 generation = 1;

/* Counts the invalidations, to notice one that comes while we look (4). */
static uint64 invalidations = 0;

static void
forget_catalog(void)
{
	invalidations++;
	catalog_valid = false;
}

/* Is the relation a part of the store?  EsCatalog is nothing but OIDs. */
static bool
is_known(Oid relid)
{
	const Oid  *oids = (const Oid *) &catalog;

	for (int i = 0; i < sizeof(EsCatalog) / sizeof(Oid); i++)
	{
		if (oids[i] == relid)
			return true;
	}
	return false;
}

static void
store_table_changed(Datum arg, Oid relid)
{
	if (!catalog_valid || relid == InvalidOid || is_known(relid))
		forget_catalog();
}

static void
store_schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	forget_catalog();
}

void
es_catalog_init(void)
{
	CacheRegisterRelcacheCallback(store_table_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, store_schema_changed, (Datum) 0);
}

/* The row of pg_class of a relation that is there. */
static FormData_pg_class
relation_row(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	FormData_pg_class row;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	memcpy(&row, GETSTRUCT(tuple), CLASS_TUPLE_SIZE);
	ReleaseSysCache(tuple);
	return row;
}

/*
 * The tables are those of the extension's version, and this library was built for
 * one: it must be the same.  Returns the schema that the extension's functions and
 * types are in.
 */
static Oid
check_version(Oid extension)
{
	Oid			schema = InvalidOid;
	Relation	rel = table_open(ExtensionRelationId, AccessShareLock);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;

	ScanKeyInit(&key, Anum_pg_extension_oid, BTEqualStrategyNumber, F_OIDEQ,
				ObjectIdGetDatum(extension));
	scan = systable_beginscan(rel, ExtensionOidIndexId, true, NULL, 1, &key);
	tuple = systable_getnext(scan);
	if (HeapTupleIsValid(tuple))
	{
		bool		isnull;
		char	   *version = TextDatumGetCString(heap_getattr(tuple, Anum_pg_extension_extversion,
															   RelationGetDescr(rel), &isnull));

		if (strcmp(version, ES_VERSION) != 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the loaded library is eventstore %s, but the extension in this database is version %s",
							ES_VERSION, version),
					 errhint("Restart the server if the library was updated, then run ALTER EXTENSION eventstore UPDATE.")));
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

/* A relation of the store: where its OID stands in EsCatalog and, of an index, its table's. */
typedef struct Part
{
	const char *name;
	char		kind;
	Size		oid;
	Size		table;
	bool		of_log;			/* events would be lost with it */
} Part;

#define TABLE(name, of_log) \
	{#name, RELKIND_RELATION, offsetof(EsCatalog, name), 0, of_log}
#define INDEX(name, table, of_log) \
	{#name, RELKIND_INDEX, offsetof(EsCatalog, name), offsetof(EsCatalog, table), of_log}
#define REGISTER(name) \
	{#name, RELKIND_SEQUENCE, offsetof(EsCatalog, name), 0, false}

/* A table stands before its indexes. */
static const Part parts[] = {
	TABLE(event_log, true),
	INDEX(event_log_position, event_log, true),
	INDEX(event_log_stream, event_log, true),
	INDEX(event_log_id, event_log, true),
	INDEX(event_log_type, event_log, true),
	INDEX(event_log_correlation, event_log, true),
	TABLE(event_tag, true),
	INDEX(event_tag_tag, event_tag, true),
	TABLE(append_lock, true),
	TABLE(stream, true),
	INDEX(stream_name, stream, true),
	INDEX(stream_key, stream, true),
	TABLE(event_type, true),
	INDEX(event_type_key, event_type, true),
	INDEX(event_type_category, event_type, true),
	INDEX(event_type_bucket, event_type, true),
	INDEX(event_type_type, event_type, true),
	TABLE(mark, false),
	REGISTER(position_register),
	REGISTER(stream_key_register),
	REGISTER(seal_register),
	REGISTER(timeline_register),
	REGISTER(format_register),
	REGISTER(id_secret_1),
	REGISTER(id_secret_2),
	REGISTER(id_check),
	TABLE(projection, false),
	TABLE(hidden, false),
	INDEX(hidden_pkey, hidden, false),
	TABLE(removed_id, false),
	INDEX(removed_id_event, removed_id, false),
	TABLE(retention, false),
	INDEX(retention_pkey, retention, false),
	TABLE(upcaster, false),
	TABLE(subscription, false),
	INDEX(subscription_name, subscription, false),
	TABLE(subscription_partition, false),
	INDEX(subscription_partition_pkey, subscription_partition, false),
};

/* The part that was found missing last, as a sentence; empty: none. */
static char missing[2 * NAMEDATALEN + 100];

static Oid *
oid_at(EsCatalog *catalog, Size offset)
{
	return (Oid *) ((char *) catalog + offset);
}

/* Is a relation of that name part of the log, so that events would be lost with it? */
bool
es_catalog_is_of_log(const char *name)
{
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (parts[i].of_log && strcmp(parts[i].name, name) == 0)
			return true;
	}
	return false;
}

/*
 * Look a part of the store up by its name.  Only what the extension made counts (1):
 * anybody may make a schema of that name, and the scheduler runs as superuser.
 */
static bool
look_up_part(EsCatalog *found, const Part *part, Oid extension)
{
	Oid			oid = get_relname_relid(part->name, found->schema);

	if (!OidIsValid(oid) || get_rel_relkind(oid) != part->kind ||
		(part->kind == RELKIND_INDEX ?
		 IndexGetRelation(oid, true) != *oid_at(found, part->table) :
		 getExtensionOfObject(RelationRelationId, oid) != extension))
	{
		snprintf(missing, sizeof(missing), "\"eventstore.%s\" is not what the extension made.", part->name);
		return false;
	}
	*oid_at(found, part->oid) = oid;
	return true;
}

static bool
look_up_store(EsCatalog *found)
{
	Oid			extension = get_extension_oid("eventstore", true);

	missing[0] = '\0';
	if (!OidIsValid(extension))
		return false;
	found->schema = get_namespace_oid("eventstore", true);
	if (!OidIsValid(found->schema) ||
		getExtensionOfObject(NamespaceRelationId, found->schema) != extension)
	{
		snprintf(missing, sizeof(missing), "There is no schema \"eventstore\" that the extension made.");
		return false;
	}
	for (int i = 0; i < lengthof(parts); i++)
	{
		if (!look_up_part(found, &parts[i], extension))
			return false;
	}
	found->owner = relation_row(found->event_log).relowner;
	found->types_storage = relation_row(found->event_type).relfilenode;
	found->event = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("es_event"),
								   ObjectIdGetDatum(check_version(extension)));
	return OidIsValid(found->event);
}

/*
 * The store of this database, or NULL if there is none.
 */
static const EsCatalog *
find_store(void)
{
	EsCatalog	found;
	bool		there;
	uint64		before;

	if (catalog_valid)
		return &catalog;
	do
	{
		before = invalidations;
		memset(&found, 0, sizeof(found));
		there = look_up_store(&found);
	} while (before != invalidations);	/* (4) */
	if (!there)
		return NULL;

	if (memcmp(&found, &catalog, sizeof(EsCatalog)) != 0)
		generation++;
	catalog = found;
	catalog_valid = true;
	return &catalog;
}

/*
 * Lock event_log to the end of the transaction; the store that it belongs to, or
 * NULL if there is none.
 */
const EsCatalog *
es_catalog_lock_if_there(LOCKMODE mode)
{
	for (;;)
	{
		const EsCatalog *found = find_store();
		Oid			log;

		if (found == NULL)
			return NULL;
		log = found->event_log;
		LockRelationOid(log, mode);

		/* We may have waited for DROP EXTENSION, and CREATE EXTENSION since. */
		found = find_store();
		if (found != NULL && found->event_log == log)
			return found;
		UnlockRelationOid(log, mode);
	}
}

/* The same; an error if there is no store. */
const EsCatalog *
es_catalog_lock(LOCKMODE mode)
{
	const EsCatalog *found = es_catalog_lock_if_there(mode);

	if (found == NULL && missing[0] == '\0')
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("there is no event store in this database"),
				 errhint("Run CREATE EXTENSION eventstore in this database.")));
	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the event store of this database is incomplete"),
				 errdetail("%s", missing),
				 errhint("If it has been renamed, give it its name back with ALTER ... RENAME; \\dx+ eventstore shows what the extension made.")));
	return found;
}

/* Look up again the OIDs that have changed while a lock was waited for (3). */
void
es_catalog_refresh(void)
{
	(void) find_store();
}

/* Changes when the store is another one than before. */
uint64
es_catalog_generation(void)
{
	return generation;
}

/*
 * Work on the store's tables with their owner's rights, so that EXECUTE on a
 * function is all that a caller needs.
 */
void
es_owner_enter(EsRoleScope *scope)
{
	es_role_enter(scope, es_catalog_lock(AccessShareLock)->owner, "pg_catalog", 0);
}
