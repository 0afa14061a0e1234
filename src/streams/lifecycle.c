/*
 * lifecycle.c
 *		Taking events away: es_truncate_stream, es_delete_stream, es_tombstone_stream.
 *
 * The stream's row says from which version on there are events, and up to which its
 * versions are used; once it does, no reader is shown earlier events.  A row in
 * eventstore.hidden says the same to readers of many streams (visible.c), until the
 * events are removed (scavenge.c).
 *
 * Truncated, a stream keeps its version, and whoever appends to it notices nothing.
 * Deleted, it counts as empty for expected_version, until it is written again; its
 * versions go on.  Tombstoned, it takes no event any more.  Snapshots go with the
 * events that they were made of when a stream is deleted or tombstoned.
 *
 * Invariants
 * 1. Whoever changes a stream's row holds its lock, as an append does: versions stand
 *    still from the comparison with expected_version to the end of the transaction.
 * 2. first_version and used_version never fall.
 *
 * Lock order: event_log, stream, hidden, snapshot.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "core/spi.h"
#include "log/change.h"
#include "log/positions.h"
#include "log/seal.h"
#include "log/version.h"
#include "streams/lifecycle.h"
#include "streams/visible.h"

PG_FUNCTION_INFO_V1(es_truncate_stream);
PG_FUNCTION_INFO_V1(es_delete_stream);
PG_FUNCTION_INFO_V1(es_tombstone_stream);

static EsStatement hide = {
	"INSERT INTO eventstore.hidden AS h (stream_key, before_version, hidden_at)"
	" VALUES ($1, $2, clock_timestamp())"
	" ON CONFLICT (stream_key) DO UPDATE"
	" SET before_version = greatest(h.before_version, $2), hidden_at = excluded.hidden_at",
	{INT8OID, INT8OID}
};

static EsStatement remove_snapshots = {
	"DELETE FROM eventstore.snapshot WHERE stream_key = $1", {INT8OID}
};

/*
 * What each statement begins with.
 */
const EsCatalog *
es_lifecycle_begin(const char *function)
{
	es_change_begin(function);
	return es_seal_lock_log();
}

/*
 * In REPEATABLE READ and above, a stream that has changed since the snapshot is a
 * serialization failure, as it is for an append.
 */
static void
refuse_newer_change(const EsHeldStream *held, EsVersions *versions)
{
	if (IsolationUsesXactSnapshot() && !held->stream.created &&
		(held->stream.unseen || !es_version_is_seen(versions, GetTransactionSnapshot())))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent change of stream \"" ES_NAME_FORMAT "\"",
						ES_NAME_ARGS(held->stream.name)),
				 errhint("The transaction might succeed if retried.")));
}

/*
 * Begin a statement about a stream: lock it, making it if there is none (1).
 */
void
es_lifecycle_hold(EsHeldStream *held, const char *function, EsName name)
{
	Relation	log;
	EsVersions *versions;

	es_name_check(name, "stream");
	held->cat = es_lifecycle_begin(function);
	held->stream.name = name;
	log = table_open(held->cat->event_log, NoLock);
	held->streams = es_streams_open(held->cat, RowExclusiveLock, SnapshotSelf);
	es_stream_lock(held->streams, &held->stream);
	CommandCounterIncrement();
	versions = es_versions_open(held->cat, log, RowExclusiveLock, SnapshotSelf);
	held->version = es_version_of(versions, &held->stream);
	refuse_newer_change(held, versions);
	es_versions_close(versions);
	table_close(log, NoLock);
}

/* Hide the events before a version, and store what the stream has become. */
static void
store_stream(EsHeldStream *held, int64 first_version, bool with_snapshots)
{
	EsStream   *stream = &held->stream;
	Datum		values[2];
	EsSpi		spi;

	stream->first_version = Max(stream->first_version, first_version);	/* (2) */
	stream->used_version = Max(stream->used_version, held->version);
	es_stream_update(held->streams, stream);
	es_streams_close(held->streams);

	values[0] = Int64GetDatum(stream->key);
	values[1] = Int64GetDatum(stream->first_version);
	es_spi_begin(&spi);
	(void) es_spi_run(&hide, values, NULL);
	if (with_snapshots)
		(void) es_spi_run(&remove_snapshots, values, NULL);
	es_spi_end(&spi);
	es_database_change_at_end(es_positions_attach(held->cat));	/* there is something to remove */
}

static void
check_expected_argument(FunctionCallInfo fcinfo, const EsHeldStream *held)
{
	int64		expected;

	if (PG_ARGISNULL(1))
		return;
	expected = PG_GETARG_INT64(1);
	es_version_check_expected(expected);
	if (!es_visible_version_matches(held->cat, &held->stream, expected, held->version))
		es_version_raise(held->stream.name, expected, held->version);
}

/*
 * es_truncate_stream(stream, before_version)
 */
Datum
es_truncate_stream(PG_FUNCTION_ARGS)
{
	EsName		name = es_arg_name(fcinfo, 0, "stream");
	EsHeldStream held = {0};
	int64		before;

	es_arg_require(fcinfo, 1, "before_version");
	before = PG_GETARG_INT64(1);
	if (before < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("before_version must be at least 1")));
	es_lifecycle_hold(&held, "es_truncate_stream()", name);
	if (held.stream.tombstoned)
		es_stream_refuse_tombstoned(&held.stream);
	if (before > held.version + 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("before_version %lld is beyond the end of stream \"" ES_NAME_FORMAT "\"",
						(long long) before, ES_NAME_ARGS(name)),
				 errdetail("Its version is %lld.", (long long) held.version)));
	if (before <= held.stream.first_version || before == 1)
	{
		es_streams_close(held.streams);
		PG_RETURN_VOID();
	}
	held.stream.deleted = held.stream.deleted && held.version == held.stream.used_version;
	store_stream(&held, before, false);
	PG_RETURN_VOID();
}

/*
 * es_delete_stream(stream, expected_version)
 */
Datum
es_delete_stream(PG_FUNCTION_ARGS)
{
	EsName		name = es_arg_name(fcinfo, 0, "stream");
	EsHeldStream held = {0};

	es_lifecycle_hold(&held, "es_delete_stream()", name);
	if (held.stream.tombstoned)
		es_stream_refuse_tombstoned(&held.stream);
	check_expected_argument(fcinfo, &held);
	if (held.version == 0)
	{
		es_streams_close(held.streams);
		PG_RETURN_VOID();
	}
	held.stream.deleted = true;
	store_stream(&held, held.version + 1, true);
	PG_RETURN_VOID();
}

/*
 * es_tombstone_stream(stream, expected_version)
 */
Datum
es_tombstone_stream(PG_FUNCTION_ARGS)
{
	EsName		name = es_arg_name(fcinfo, 0, "stream");
	EsHeldStream held = {0};

	es_lifecycle_hold(&held, "es_tombstone_stream()", name);
	check_expected_argument(fcinfo, &held);
	if (held.stream.tombstoned)
	{
		es_streams_close(held.streams);
		PG_RETURN_VOID();
	}
	held.stream.tombstoned = true;
	store_stream(&held, held.version + 1, true);
	PG_RETURN_VOID();
}
