/*
 * rehash.c
 *		Making the hashes of a restored log those of this format: eventstore.rehash.
 *
 * The way out where the first append refuses a restored log (log/format.c).  The rows of
 * event_tag are made anew from the tags of the events.  Events whose type key is not that
 * of their type, or is of another bucket than that of their stream, get the right one;
 * the rows of the dictionary that they had stay, as every row of it does
 * (log/dictionary.c, invariant 1): no event names them any more.  Only a row that has the key
 * of a right one is removed.
 *
 * Plain statements, each over all of the log.  The guard's triggers are disabled for
 * them, which belongs to the transaction as all the rest.
 *
 * Invariant: nobody else reads or writes the log meanwhile: AccessExclusiveLock on
 * event_log, to the end of the transaction.  The log is not sealed, so the next append
 * checks what was made.
 *
 * Locks: AccessExclusive on event_log, then on event_tag, ShareRowExclusive on event_type.
 * Crash: all of it or nothing.  The register of the format may say more than is true after
 * a rollback; the sample does not.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "miscadmin.h"

#include "core/spi.h"
#include "log/change.h"
#include "log/format.h"
#include "log/seal.h"

PG_FUNCTION_INFO_V1(rehash);

/* The types of the events, each with the bucket that the stream of the event is in. */
#define RIGHT_TYPES \
	" (SELECT l.type_key, l.stream_key, t.category," \
	"   CASE WHEN t.bucket IS NOT NULL THEN eventstore.stream_bucket(l.stream) END AS bucket," \
	"   t.type, t.schema_version, t.content_type" \
	"  FROM (SELECT DISTINCT type_key, stream_key, stream FROM eventstore.event_log) l" \
	"  JOIN eventstore.event_type t USING (type_key)) r"

#define KEY(t, attempt) \
	"eventstore.type_key(" t ".category, " t ".bucket, " t ".type, " t ".schema_version, " attempt ", " t ".content_type)"

#define HASHES(t) \
	" (" KEY(t, "0") ", " KEY(t, "1") ")"

#define IS_HASH(t) \
	" " t ".type_key IN" HASHES(t)

/* The rows of the dictionary, o, that are right for r. */
#define IS_RIGHT \
	" o.type_key IN" HASHES("r") \
	" AND (o.category, o.bucket, o.type, o.schema_version, o.content_type)" \
	"  IS NOT DISTINCT FROM (r.category, r.bucket, r.type, r.schema_version, r.content_type)"

static const char *const steps[] = {
	"ALTER TABLE eventstore.event_log DISABLE TRIGGER eventstore_guard, DISABLE TRIGGER eventstore_guard_all",
	"ALTER TABLE eventstore.event_tag DISABLE TRIGGER eventstore_guard_all",
	"ALTER TABLE eventstore.event_type DISABLE TRIGGER eventstore_guard, DISABLE TRIGGER eventstore_guard_all",
	"TRUNCATE eventstore.event_tag",
	"INSERT INTO eventstore.event_tag (tag, position)"
	" SELECT DISTINCT eventstore.name_hash(g), l.position FROM eventstore.event_log l, unnest(l.tags) g"
	" WHERE g IS NOT NULL",
	"INSERT INTO eventstore.event_type (type_key, category, bucket, type, schema_version, content_type)"
	" SELECT DISTINCT " KEY("r", "0") ","
	"  r.category, r.bucket, r.type, r.schema_version, r.content_type FROM" RIGHT_TYPES
	" WHERE NOT EXISTS (SELECT FROM eventstore.event_type o WHERE" IS_RIGHT ")",
	"UPDATE eventstore.event_log l SET type_key = o.type_key FROM" RIGHT_TYPES
	", eventstore.event_type o"
	" WHERE l.type_key = r.type_key AND l.stream_key = r.stream_key AND o.type_key <> l.type_key AND" IS_RIGHT,
	/* a row of another content that has a right one's key: its events have that one's type */
	"DELETE FROM eventstore.event_type r USING eventstore.event_type o"
	" WHERE r.type_key = o.type_key AND NOT" IS_HASH("r") " AND" IS_HASH("o"),
	"ALTER TABLE eventstore.event_type ENABLE ALWAYS TRIGGER eventstore_guard, ENABLE ALWAYS TRIGGER eventstore_guard_all",
	"ALTER TABLE eventstore.event_tag ENABLE ALWAYS TRIGGER eventstore_guard_all",
	"ALTER TABLE eventstore.event_log ENABLE ALWAYS TRIGGER eventstore_guard, ENABLE ALWAYS TRIGGER eventstore_guard_all",
};

/*
 * eventstore.rehash()
 */
Datum
rehash(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat;
	EsSpi		spi;

	es_change_begin("eventstore.rehash()");
	es_control_require_read_committed("eventstore.rehash()");
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to run eventstore.rehash()")));
	cat = es_catalog_lock(AccessExclusiveLock);
	if (!es_seal_allows_insert())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the event log is sealed"),
				 errhint("To mend it all the same, SET eventstore.restore = on.")));

	es_spi_begin(&spi);
	for (int i = 0; i < lengthof(steps); i++)
	{
		if (SPI_execute(steps[i], false, 0) < 0)
			elog(ERROR, "could not run \"%s\": %s", steps[i], SPI_result_code_string(SPI_result));
	}
	es_spi_end(&spi);
	es_format_write(cat);
	PG_RETURN_VOID();
}
