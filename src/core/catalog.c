/*
 * catalog.c
 *		Where the store's relations are, cached for the life of a backend, and whether this
 *		library can serve them.
 *
 * Every call needs the OIDs of a dozen relations.  They are looked up by name
 * once and kept until an invalidation message says that one of them, or the
 * schema, has changed.  CREATE EXTENSION, DROP EXTENSION and their rollback all
 * send such messages, so an OID kept here is that of the store which this
 * transaction sees.
 *
 * The SQL of the store may be older than the library, of the same major version
 * (core/release.c).  Then it lacks relations that came later: they are InvalidOid here, and
 * whoever uses such a relation asks first.  The log says its format in a register.  A store
 * that this library cannot serve is none for hooks and workers, and an error for all calls.
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
 * 6. The format is read under the lock on event_log, again whenever the store has been looked
 *    up again, and in each call as long as it was never written: a restore may write it.
 *
 * Callbacks get the OID of the relation, or InvalidOid for "everything"
 * (utils/cache/inval.c).
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
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
#include "core/durable.h"
#include "core/release.h"

static EsCatalog catalog;
static bool catalog_valid = false;
static uint64 generation = 1;

/* Counts the invalidations, to notice one that comes while we look (4). */
static uint64 invalidations = 0;

/* The format was read after so many of them (6). */
static uint64 format_read_at = PG_UINT64_MAX;

/* Why there is no store that can be used. */
static enum
{
	THERE_IS_NONE,
	IS_INCOMPLETE,
	IS_OF_NEWER_SQL,
	IS_OF_OTHER_MAJOR,
	IS_OF_OTHER_FORMAT
}			obstacle;

/* Details of that: which part is missing, as a sentence; which version or format it is of. */
static char missing[2 * NAMEDATALEN + 100];
static char sql_version[NAMEDATALEN];
static int64 log_format;

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
 * The version of the extension, into sql_version.  Returns the schema that its functions
 * and types are in; InvalidOid: it has gone.
 */
static Oid
read_extension(Oid extension)
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

		strlcpy(sql_version,
				TextDatumGetCString(heap_getattr(tuple, Anum_pg_extension_extversion,
												 RelationGetDescr(rel), &isnull)),
				sizeof(sql_version));
		schema = ((Form_pg_extension) GETSTRUCT(tuple))->extnamespace;
	}
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return schema;
}

/* Does this library serve the SQL that was found? */
static bool
serves_sql(void)
{
	switch (es_release_service(sql_version))
	{
		case ES_SERVES:
			return true;
		case ES_IS_OLDER:
			obstacle = IS_OF_NEWER_SQL;
			return false;
		case ES_IS_OTHER_MAJOR:
		case ES_KNOWS_NO_SUCH:
			break;
	}
	obstacle = IS_OF_OTHER_MAJOR;
	return false;
}

/*
 * A relation of the store: where its OID stands in EsCatalog and, of an index, its table's;
 * and the version that it came with.
 */
typedef struct Part
{
	const char *name;
	char		kind;
	Size		oid;
	Size		table;
	bool		of_log;			/* events would be lost with it */
	const char *since;			/* NULL: all SQL of this major version has it */
} Part;

/* What comes after the first version of a major one: TABLE(name, false, .since = "1.1.0"). */
#define TABLE(name, of_log, ...) \
	{#name, RELKIND_RELATION, offsetof(EsCatalog, name), 0, of_log, __VA_ARGS__}
#define INDEX(name, table, of_log, ...) \
	{#name, RELKIND_INDEX, offsetof(EsCatalog, name), offsetof(EsCatalog, table), of_log, __VA_ARGS__}
#define REGISTER(name, ...) \
	{#name, RELKIND_SEQUENCE, offsetof(EsCatalog, name), 0, false, __VA_ARGS__}

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
	REGISTER(boundary_register),
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
		obstacle = IS_INCOMPLETE;
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
	Oid			functions;

	obstacle = THERE_IS_NONE;
	if (!OidIsValid(extension))
		return false;
	functions = read_extension(extension);
	if (!OidIsValid(functions) || !serves_sql())
		return false;
	found->schema = get_namespace_oid("eventstore", true);
	if (!OidIsValid(found->schema) ||
		getExtensionOfObject(NamespaceRelationId, found->schema) != extension)
	{
		obstacle = IS_INCOMPLETE;
		snprintf(missing, sizeof(missing), "There is no schema \"eventstore\" that the extension made.");
		return false;
	}
	for (int i = 0; i < lengthof(parts); i++)
	{
		if ((parts[i].since == NULL || es_release_has(sql_version, parts[i].since)) &&
			!look_up_part(found, &parts[i], extension))
			return false;
	}
	found->owner = relation_row(found->event_log).relowner;
	found->types_storage = relation_row(found->event_type).relfilenode;
	found->event = GetSysCacheOid2(TYPENAMENSP, Anum_pg_type_oid, CStringGetDatum("es_event"),
								   ObjectIdGetDatum(functions));
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
 * Does this library serve the format of the log?  Reads it anew; log_format is 0 if it was
 * never written.
 */
static bool
serves_format(const EsCatalog *found)
{
	uint64		before = invalidations;
	Relation	rel = es_durable_open(found->format_register, false);
	bool		written = es_durable_read(rel, &log_format);

	relation_close(rel, NoLock);
	if (!written)
		log_format = 0;
	else if (log_format < ES_FORMAT_OLDEST || log_format > ES_FORMAT)
	{
		obstacle = IS_OF_OTHER_FORMAT;
		return false;
	}
	else
		format_read_at = before;
	return true;
}

/*
 * Lock event_log to the end of the transaction; the store that it belongs to, or
 * NULL if there is none that can be served.
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
		/* A lock that was held before brings no news of what others have committed since. */
		AcceptInvalidationMessages();

		/* We may have waited for DROP EXTENSION, and CREATE EXTENSION since. */
		found = find_store();
		if (found != NULL && found->event_log == log)
			return format_read_at == invalidations || serves_format(found) ? found : NULL;	/* (6) */
		UnlockRelationOid(log, mode);
	}
}

/* Say why there is no store that can be used. */
static void
raise_obstacle(void)
{
	switch (obstacle)
	{
		case THERE_IS_NONE:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("there is no event store in this database"),
					 errhint("Run CREATE EXTENSION eventstore in this database.")));
			break;
		case IS_INCOMPLETE:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the event store of this database is incomplete"),
					 errdetail("%s", missing),
					 errhint("If it has been renamed, give it its name back with ALTER ... RENAME; \\dx+ eventstore shows what the extension made.")));
			break;
		case IS_OF_NEWER_SQL:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the event store of this database is of version %s, but the library of eventstore %s is loaded",
							sql_version, es_release_name()),
					 errhint("Restart the server, with the library of version %s or a newer one installed.", sql_version)));
			break;
		case IS_OF_OTHER_MAJOR:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the event store of this database is of version %s, which the library of eventstore %s does not serve",
							sql_version, es_release_name()),
					 errhint("Copy its events into a store of this version: COPY eventstore.new_events takes what a SELECT on the old store gives; see docs/migrating.md.")));
			break;
		case IS_OF_OTHER_FORMAT:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("the event log is of format %lld, which eventstore %s does not serve",
							(long long) log_format, es_release_name()),
					 log_format > ES_FORMAT ?
					 errhint("Restore it, or serve it, where a newer version of eventstore is installed.") :
					 errhint("Serve it where an older version of eventstore is installed, and copy its events: see docs/migrating.md.")));
			break;
	}
}

/* The same; an error if there is none. */
const EsCatalog *
es_catalog_lock(LOCKMODE mode)
{
	const EsCatalog *found = es_catalog_lock_if_there(mode);

	if (found == NULL)
		raise_obstacle();
	return found;
}

/*
 * The format that the log says it is of, read anew, or 0 if it was never written; an error
 * if it cannot be served.  Assumes a lock on event_log.
 */
int64
es_catalog_format(const EsCatalog *cat)
{
	if (!serves_format(cat))
		raise_obstacle();
	return log_format;
}

/* With this transaction's commit everybody looks the store up again. */
void
es_catalog_announce(void)
{
	Oid			log = get_relname_relid("event_log", get_namespace_oid("eventstore", false));

	if (OidIsValid(log))
		CacheInvalidateRelcacheByRelid(log);
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
