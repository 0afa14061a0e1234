/*
 * format.c
 *		The format of what is stored, and whether a restored log is of it.
 *
 * Tags, type keys and buckets are found by hashes (format.h).  A log whose hashes are not
 * those of its names would be read as if events were missing, and conditions on them
 * would pass.  So the first append after a restore asks: is the log of a format that this
 * library serves, and are the hashes of a sample right?  The sample is of a limited size, however
 * long the log: the oldest and the newest events, the ends of the index on tags, which
 * are tags by chance, and the dictionary, of which each log has some rows.  es_check()
 * looks at all.
 *
 * The number of the format stands in a register (core/durable.c), not in a row.  A dump
 * carries a sequence as a setval, which overwrites what CREATE EXTENSION has made; the row
 * of a table would be a second one.  And the number stays if the first append, which writes
 * it, is rolled back.  If it was never written, nothing was stored yet, or the dump did not
 * have it; then the sample alone decides.  The number is looked at by whoever uses the store
 * (core/catalog.c), and stays what it is: an append writes it only if it is not there.
 *
 * Locks: none of its own; the caller has locked event_log.
 * Crash: the register holds what was written last.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "core/args.h"
#include "core/durable.h"
#include "core/hash.h"
#include "core/release.h"
#include "core/spi.h"
#include "log/format.h"

PG_FUNCTION_INFO_V1(name_hash);
PG_FUNCTION_INFO_V1(stream_bucket);
PG_FUNCTION_INFO_V1(type_key);

/* ---- hashes ---- */

/* The bucket of a category that has no keys of its own. */
int32
es_format_bucket(EsName category)
{
	return (int32) (es_hash_name(category, 0) % ES_BUCKETS);
}

static int64
finish_key(uint64 first, EsName type, int32 schema_version, EsName content_type)
{
	uint64		hash = es_hash_number(schema_version, es_hash_name(type, first));

	return (int64) (content_type.len == 0 ? hash : es_hash_name(content_type, hash));
}

/* The key of a type in a category that has keys of its own. */
int64
es_format_category_key(EsName category, EsName type, int32 schema_version,
					   EsName content_type, int attempt)
{
	return finish_key(es_hash_name(category, (uint64) attempt), type, schema_version, content_type);
}

/* The key of a type in all categories of a bucket. */
int64
es_format_bucket_key(int32 bucket, EsName type, int32 schema_version,
					 EsName content_type, int attempt)
{
	return finish_key(es_hash_number(bucket, (uint64) attempt), type, schema_version, content_type);
}

/*
 * eventstore.name_hash(name) → bigint; of null: null
 */
Datum
name_hash(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) es_hash_name(es_name_from_text(PG_GETARG_DATUM(0)), 0));
}

/*
 * eventstore.stream_bucket(stream) → int; of null: null
 */
Datum
stream_bucket(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	PG_RETURN_INT32(es_format_bucket(es_name_category(es_name_from_text(PG_GETARG_DATUM(0)))));
}

/*
 * eventstore.type_key(category, bucket, type, schema_version, attempt, content_type) → bigint
 *
 * A category or a bucket is given, the other is null.  content_type null: none.
 */
Datum
type_key(PG_FUNCTION_ARGS)
{
	EsName		type;
	EsName		content_type = ES_NAME_NONE;
	int32		schema_version;
	int			attempt;

	es_arg_require(fcinfo, 2, "type");
	es_arg_require(fcinfo, 3, "schema_version");
	es_arg_require(fcinfo, 4, "attempt");
	if (PG_ARGISNULL(0) == PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("either category or bucket must be null")));
	type = es_name_from_text(PG_GETARG_DATUM(2));
	schema_version = PG_GETARG_INT32(3);
	attempt = PG_GETARG_INT32(4);
	if (!PG_ARGISNULL(5))
		content_type = es_name_from_text(PG_GETARG_DATUM(5));
	if (PG_ARGISNULL(0))
		PG_RETURN_INT64(es_format_bucket_key(PG_GETARG_INT32(1), type, schema_version,
											 content_type, attempt));
	PG_RETURN_INT64(es_format_category_key(es_name_from_text(PG_GETARG_DATUM(0)), type,
										   schema_version, content_type, attempt));
}

/* ---- a restored log ---- */

/* A log that does not say yet of which format it is, is of this library's. */
void
es_format_begin(const EsCatalog *cat)
{
	if (es_catalog_format(cat) == 0)
		es_format_write(cat);
}

/* Say that the log is of this library's format. */
void
es_format_write(const EsCatalog *cat)
{
	Relation	rel = es_durable_open(cat->format_register, true);

	es_durable_write(rel, ES_FORMAT);
	relation_close(rel, NoLock);
}

/* Each statement gives a problem as text, or no row. */
static EsStatement samples[] = {
	{
		"SELECT format('The key of type \"%s\" is not the hash of its names.', t.type)"
		" FROM (SELECT * FROM eventstore.event_type LIMIT 10000) t"
		" WHERE t.type_key <> eventstore.type_key(t.category, t.bucket, t.type, t.schema_version, 0, t.content_type)"
		" AND t.type_key <> eventstore.type_key(t.category, t.bucket, t.type, t.schema_version, 1, t.content_type)"
		" AND EXISTS (SELECT FROM eventstore.event_log l WHERE l.type_key = t.type_key)"
		" LIMIT 1", {0}
	},
	{
		"SELECT format('The tag \"%s\" of the event at position %s is not in eventstore.event_tag by its hash.', g, l.position)"
		" FROM ((SELECT position, tags FROM eventstore.event_log ORDER BY position LIMIT 1000)"
		"  UNION ALL (SELECT position, tags FROM eventstore.event_log ORDER BY position DESC LIMIT 1000)) l,"
		" unnest(l.tags) g"
		" WHERE g IS NOT NULL AND NOT EXISTS (SELECT FROM eventstore.event_tag t"
		"  WHERE t.tag = eventstore.name_hash(g) AND t.position = l.position)"
		" LIMIT 1", {0}
	},
	{
		"SELECT format('Of the event at position %s eventstore.event_tag has a tag whose hash is that of none.', t.position)"
		" FROM ((SELECT tag, position FROM eventstore.event_tag ORDER BY tag, position LIMIT 100)"
		"  UNION ALL (SELECT tag, position FROM eventstore.event_tag ORDER BY tag DESC, position DESC LIMIT 100)) t"
		" JOIN eventstore.event_log l USING (position)"
		" WHERE NOT EXISTS (SELECT FROM unnest(l.tags) g WHERE eventstore.name_hash(g) = t.tag)"
		" LIMIT 1", {0}
	},
	{
		"SELECT format('Stream \"%s\" is not of the bucket that its events are in.', l.stream)"
		" FROM ((SELECT stream, type_key FROM eventstore.event_log ORDER BY position LIMIT 1000)"
		"  UNION ALL (SELECT stream, type_key FROM eventstore.event_log ORDER BY position DESC LIMIT 1000)) l"
		" JOIN eventstore.event_type t USING (type_key)"
		" WHERE t.bucket <> eventstore.stream_bucket(l.stream)"
		" LIMIT 1", {0}
	},
	{
		"SELECT format('The event at position %s is of stream \"%s\", and its stream key is that of \"%s\".', l.position, l.stream, s.name)"
		" FROM ((SELECT position, stream_key, stream FROM eventstore.event_log ORDER BY position LIMIT 1000)"
		"  UNION ALL (SELECT position, stream_key, stream FROM eventstore.event_log ORDER BY position DESC LIMIT 1000)) l"
		" JOIN eventstore.stream s USING (stream_key)"
		" WHERE s.name <> l.stream"
		" LIMIT 1", {0}
	},
};

static void
raise_other_format(const char *detail)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the event log is of another format: what it stores by hashes would not be found"),
			 errdetail_internal("%s", detail),
			 errhint("As a superuser, run SELECT eventstore.rehash() while nothing else uses the store.")));
}

/*
 * Refuse a log that was restored and is not of this format.  The caller is connected to
 * SPI as the owner, with an active snapshot that sees all of it.
 */
void
es_format_check(const EsCatalog *cat)
{
	(void) es_catalog_format(cat);
	for (int i = 0; i < lengthof(samples); i++)
	{
		if (es_spi_see(&samples[i], NULL) > 0)
			raise_other_format(es_spi_text(1, 1));
	}
}
