/*
 * snapshot.c
 *		Snapshots, saved states of streams: es_save_snapshot, es_delete_snapshots.
 *
 * A stream has one snapshot of each kind: the newest that was saved.  It is a shortcut
 * and nothing else: whatever is loaded with it (read/load.c) must be the same without.
 *
 * Invariants
 * 1. A snapshot is of a version that the stream had when it was saved.  A snapshot of an
 *    older version never replaces it, however savers race, unless the reducer that its kind
 *    names is another one by now (reducer.c): then nobody can use it.
 * 2. A snapshot of deleted events is not saved after the deletion, which removes snapshots:
 *    both take the stream's lock.
 *
 * Locks: those of lifecycle.c.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "catalog/pg_type.h"
#include "executor/executor.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/jsonb.h"
#include "utils/numeric.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/uuid.h"

#include "core/args.h"
#include "core/spi.h"
#include "streams/lifecycle.h"
#include "streams/reducer.h"
#include "streams/snapshot.h"

PG_FUNCTION_INFO_V1(es_save_snapshot);
PG_FUNCTION_INFO_V1(es_delete_snapshots);

static EsStatement save = {
	"INSERT INTO eventstore.snapshot AS s (stream_key, kind, version, state, saved_at, made_by)"
	" VALUES ($1, $2, $3, $4, pg_catalog.clock_timestamp(), $5)"
	" ON CONFLICT (stream_key, kind) DO UPDATE"
	" SET version = excluded.version, state = excluded.state, saved_at = excluded.saved_at,"
	"     made_by = excluded.made_by"
	" WHERE s.version <= excluded.version OR s.made_by IS DISTINCT FROM excluded.made_by",		/* (1) */
	{INT8OID, TEXTOID, INT8OID, JSONBOID, BYTEAOID}
};

static EsStatement delete_kind = {
	"DELETE FROM eventstore.snapshot WHERE kind = $1"
	" AND ($2 IS NULL OR stream_key = (SELECT stream_key FROM eventstore.stream WHERE name = $2))",
	{TEXTOID, TEXTOID}
};

static EsStatement find = {
	"SELECT version, state, made_by FROM eventstore.snapshot"
	" WHERE stream_key = $1 AND kind = $2 AND version > $3 AND version <= $4 AND saved_at <= $5",
	{INT8OID, TEXTOID, INT8OID, INT8OID, TIMESTAMPTZOID}
};

/* Snapshots up to this version are of events that were deleted (2). */
static int64
deleted_up_to(const EsStream *stream)
{
	if (stream->tombstoned)
		return PG_INT64_MAX;
	return stream->deleted ? stream->used_version : 0;
}

/*
 * The snapshot of a kind, as the active snapshot of the database sees it.
 */
EsKept
es_snapshot_find(const EsStream *stream, const char *kind, EsKeptLimit limit)
{
	Datum		values[5] = {
		Int64GetDatum(stream->key), CStringGetTextDatum(kind), Int64GetDatum(deleted_up_to(stream)),
		Int64GetDatum(limit.version), TimestampTzGetDatum(limit.saved_at)
	};
	MemoryContext context = CurrentMemoryContext;
	EsKept	found = {0};
	EsSpi		spi;

	es_spi_begin(&spi);
	if (es_spi_see(&find, values) > 0)
	{
		bool		isnull;
		Datum		made_by;
		MemoryContext old;

		found.version = DatumGetInt64(es_spi_value(1, 1, &isnull));
		old = MemoryContextSwitchTo(context);
		found.state = PointerGetDatum(PG_DETOAST_DATUM_COPY(es_spi_value(1, 2, &isnull)));
		made_by = es_spi_value(1, 3, &isnull);
		found.made_by = isnull ? NULL : DatumGetByteaPCopy(made_by);
		MemoryContextSwitchTo(old);
	}
	es_spi_end(&spi);
	return found;
}

/* The kind of a snapshot, as an argument. */
char *
es_snapshot_kind(FunctionCallInfo fcinfo, int argno)
{
	EsName		kind = es_arg_name(fcinfo, argno, "kind");

	es_name_check(kind, "kind");
	return pnstrdup(kind.bytes, kind.len);
}

/*
 * es_save_snapshot(stream, version, state, kind)
 */
Datum
es_save_snapshot(PG_FUNCTION_ARGS)
{
	EsName		name = es_arg_name(fcinfo, 0, "stream");
	EsHeldStream held = {0};
	char	   *kind;
	int64		version;
	bytea	   *made_by;
	Datum		values[5];
	bool		isnull[5] = {false};
	EsSpi		spi;

	es_arg_require(fcinfo, 1, "version");
	version = PG_GETARG_INT64(1);
	if (version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version must be at least 1")));
	es_arg_require(fcinfo, 2, "state");
	kind = es_snapshot_kind(fcinfo, 3);

	es_lifecycle_hold(&held, "es_save_snapshot()", name);	/* (2) */
	made_by = es_reducer_digest_by_name(held.cat, kind);
	es_streams_close(held.streams);
	if (held.stream.tombstoned)
		es_stream_refuse_tombstoned(&held.stream);
	if (version > held.version)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("version %lld is beyond the end of stream \"" ES_NAME_FORMAT "\"",
						(long long) version, ES_NAME_ARGS(name)),
				 errdetail("Its version is %lld.", (long long) held.version)));
	if (version <= deleted_up_to(&held.stream))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("the events of stream \"" ES_NAME_FORMAT "\" up to version %lld have been deleted",
						ES_NAME_ARGS(name), (long long) held.stream.used_version)));

	values[0] = Int64GetDatum(held.stream.key);
	values[1] = CStringGetTextDatum(kind);
	values[2] = Int64GetDatum(version);
	values[3] = PG_GETARG_DATUM(2);
	values[4] = PointerGetDatum(made_by);
	isnull[4] = made_by == NULL;
	es_spi_begin(&spi);
	(void) es_spi_run(&save, values, isnull);
	es_spi_end(&spi);
	PG_RETURN_VOID();
}

/*
 * es_delete_snapshots(kind, stream) → bigint
 */
Datum
es_delete_snapshots(PG_FUNCTION_ARGS)
{
	Datum		values[2];
	bool		isnull[2] = {false, PG_ARGISNULL(1)};
	int64		deleted;
	EsSpi		spi;

	(void) es_lifecycle_begin("es_delete_snapshots()");
	values[0] = CStringGetTextDatum(es_snapshot_kind(fcinfo, 0));
	values[1] = PG_GETARG_DATUM(1);
	if (!isnull[1])
		es_name_check(es_arg_name(fcinfo, 1, "stream"), "stream");
	es_spi_begin(&spi);
	deleted = (int64) es_spi_run(&delete_kind, values, isnull);
	es_spi_end(&spi);
	PG_RETURN_INT64(deleted);
}
