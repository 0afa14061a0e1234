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
 * 5. generation changes whenever the OIDs may have changed; caches that hang
 *    on the store's contents (the dictionary, the names of streams) compare it.
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
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/guc.h"
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
forget(void)
{
	invalidations++;
	catalog_valid = false;
}

/* Is this one of what the store consists of?  EsCatalog is nothing but OIDs. */
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
relation_changed(Datum arg, Oid relid)
{
	if (!catalog_valid || relid == InvalidOid || is_known(relid))
		forget();
}

static void
schema_changed(Datum arg, int cacheid, uint32 hashvalue)
{
	forget();
}

void
es_catalog_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
	CacheRegisterSyscacheCallback(NAMESPACEOID, schema_changed, (Datum) 0);
}

static Oid
relation_owner(Oid relid)
{
	HeapTuple	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	Oid			owner;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	owner = ((Form_pg_class) GETSTRUCT(tuple))->relowner;
	ReleaseSysCache(tuple);
	return owner;
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

/*
 * Look the store up by its relations' names.  Only what the extension made counts
 * (1): anybody may make a schema of that name, and the scheduler runs as superuser.
 */
static bool
look_up(EsCatalog *found)
{
	struct
	{
		const char *name;
		char		kind;
		Oid		   *oid;
		Oid		   *table;		/* of an index */
	}			wanted[] = {
		{"event_log", RELKIND_RELATION, &found->event_log, NULL},
		{"event_log_position", RELKIND_INDEX, &found->event_log_position, &found->event_log},
		{"event_log_stream", RELKIND_INDEX, &found->event_log_stream, &found->event_log},
		{"event_log_id", RELKIND_INDEX, &found->event_log_id, &found->event_log},
		{"event_log_type", RELKIND_INDEX, &found->event_log_type, &found->event_log},
		{"event_log_correlation", RELKIND_INDEX, &found->event_log_correlation, &found->event_log},
		{"event_tag", RELKIND_RELATION, &found->event_tag, NULL},
		{"event_tag_tag", RELKIND_INDEX, &found->event_tag_tag, &found->event_tag},
		{"append_lock", RELKIND_RELATION, &found->append_lock, NULL},
		{"stream", RELKIND_RELATION, &found->stream, NULL},
		{"stream_name", RELKIND_INDEX, &found->stream_name, &found->stream},
		{"stream_key", RELKIND_INDEX, &found->stream_key, &found->stream},
		{"event_type", RELKIND_RELATION, &found->event_type, NULL},
		{"event_type_key", RELKIND_INDEX, &found->event_type_key, &found->event_type},
		{"event_type_category", RELKIND_INDEX, &found->event_type_category, &found->event_type},
		{"event_type_bucket", RELKIND_INDEX, &found->event_type_bucket, &found->event_type},
		{"event_type_type", RELKIND_INDEX, &found->event_type_type, &found->event_type},
		{"mark", RELKIND_RELATION, &found->mark, NULL},
		{"position_register", RELKIND_SEQUENCE, &found->position_register, NULL},
		{"stream_key_register", RELKIND_SEQUENCE, &found->stream_key_register, NULL},
		{"seal_register", RELKIND_SEQUENCE, &found->seal_register, NULL},
		{"timeline_register", RELKIND_SEQUENCE, &found->timeline_register, NULL},
		{"format_register", RELKIND_SEQUENCE, &found->format_register, NULL},
		{"projection", RELKIND_RELATION, &found->projection, NULL},
		{"hidden", RELKIND_RELATION, &found->hidden, NULL},
		{"hidden_pkey", RELKIND_INDEX, &found->hidden_pkey, &found->hidden},
		{"retention", RELKIND_RELATION, &found->retention, NULL},
		{"retention_pkey", RELKIND_INDEX, &found->retention_pkey, &found->retention},
		{"upcaster", RELKIND_RELATION, &found->upcaster, NULL},
		{"subscription", RELKIND_RELATION, &found->subscription, NULL},
		{"subscription_name", RELKIND_INDEX, &found->subscription_name, &found->subscription},
		{"subscription_partition", RELKIND_RELATION, &found->subscription_partition, NULL},
		{"subscription_partition_pkey", RELKIND_INDEX, &found->subscription_partition_pkey, &found->subscription_partition},
	};
	Oid			extension = get_extension_oid("eventstore", true);

	found->schema = get_namespace_oid("eventstore", true);
	if (!OidIsValid(extension) || !OidIsValid(found->schema))
		return false;
	for (int i = 0; i < lengthof(wanted); i++)
	{
		Oid			oid = get_relname_relid(wanted[i].name, found->schema);

		if (!OidIsValid(oid) || get_rel_relkind(oid) != wanted[i].kind)
			return false;
		if (wanted[i].table != NULL ?
			IndexGetRelation(oid, true) != *wanted[i].table :
			getExtensionOfObject(RelationRelationId, oid) != extension)
			return false;
		*wanted[i].oid = oid;
	}
	found->owner = relation_owner(found->event_log);
	found->event = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("es_event"),
								   ObjectIdGetDatum(check_version(extension)));
	return OidIsValid(found->event);
}

/*
 * The store of this database, or NULL if there is none.
 */
static const EsCatalog *
find(void)
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
		there = look_up(&found);
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
		const EsCatalog *found = find();
		Oid			log;

		if (found == NULL)
			return NULL;
		log = found->event_log;
		LockRelationOid(log, mode);

		/* We may have waited for DROP EXTENSION, and CREATE EXTENSION since. */
		found = find();
		if (found != NULL && found->event_log == log)
			return found;
		UnlockRelationOid(log, mode);
	}
}

/* The same; an error if there is none. */
const EsCatalog *
es_catalog_lock(LOCKMODE mode)
{
	const EsCatalog *found = es_catalog_lock_if_there(mode);

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the event store of this database is missing or incomplete"),
				 errhint("Run CREATE EXTENSION eventstore in this database.")));
	return found;
}

/* Take in what has changed while a lock was waited for (3). */
void
es_catalog_refresh(void)
{
	(void) find();
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
