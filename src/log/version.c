/*
 * version.c
 *		The version of a stream: that of its last event, or, if that has been taken
 *		away, the one that the stream's row keeps.  And what an append expects it to be.
 *
 * Read from the right end of the stream's range in the index on (stream_key,
 * version), which is the page that an append is going to insert into anyway.  The
 * heap is only asked where the visibility map does not answer, as in an
 * index-only scan (executor/nodeIndexonlyscan.c): the last event of an old stream
 * need not be read to append to it.
 *
 * An index scan collects all entries of the stream that stand on its last page, hundreds for a
 * long stream.  So it begins where the stream's version was when this backend asked last,
 * and only if there is no event from there on is the whole range looked at.
 *
 * Invariants
 * 1. With the stream's row locked and SnapshotSelf, the answer is the truth until
 *    the transaction ends; all other entries of the range are committed, or dead.
 * 2. SnapshotSelf leaves no predicate locks (SerializationNeededForRead in
 *    storage/lmgr/predicate.c), any snapshot of a serializable reader does.
 * 3. Where a scan begins decides what it costs, never what it finds: the last event
 *    from any version on is the last one of the stream.  So what was noted may be wrong, of a
 *    transaction that was rolled back, or of another store.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "executor/tuptable.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/errors.h"
#include "log/version.h"

/* Versions that streams had, for as many streams; one drives out another. */
#define NOTED_STREAMS	1024

typedef struct NotedVersion
{
	int64		stream_key;
	int64		version;
} NotedVersion;

static NotedVersion noted_versions[NOTED_STREAMS];

struct EsVersions
{
	Relation	log;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *slot;
	Buffer		visibility;		/* page of the visibility map, pinned */
	bool		fetched;		/* the last entry's row is in slot */
};

EsVersions *
es_versions_open(const EsCatalog *cat, Relation log, LOCKMODE lockmode, Snapshot snapshot)
{
	EsVersions *versions = palloc(sizeof(EsVersions));

	versions->log = log;
	versions->index = index_open(cat->event_log_stream, lockmode);
	versions->scan = es_compat_index_beginscan(log, versions->index, snapshot, 2);
	versions->scan->xs_want_itup = true;
	versions->slot = table_slot_create(log, NULL);
	versions->visibility = InvalidBuffer;
	versions->fetched = false;
	return versions;
}

void
es_versions_close(EsVersions *versions)
{
	if (BufferIsValid(versions->visibility))
		ReleaseBuffer(versions->visibility);
	index_endscan(versions->scan);
	ExecDropSingleTupleTableSlot(versions->slot);
	index_close(versions->index, NoLock);
	pfree(versions);
}

static bool
is_visible(EsVersions *versions, ItemPointer tid)
{
	versions->fetched = false;
	if (VM_ALL_VISIBLE(versions->log, ItemPointerGetBlockNumber(tid), &versions->visibility))
	{
		/* the row is not read, so nothing else marks it as read for a serializable transaction */
		PredicateLockPage(versions->log, ItemPointerGetBlockNumber(tid),
						  versions->scan->xs_snapshot);
		return true;
	}
	return versions->fetched = index_fetch_heap(versions->scan, versions->slot);
}

/*
 * The version of the stream's last event, if that has this version at least; 0 if there is none.
 */
static int64
last_version_from(EsVersions *versions, int64 stream_key, int64 from)
{
	ScanKeyData keys[2];
	ItemPointer tid;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream_key));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(from));
	ExecClearTuple(versions->slot);
	index_rescan(versions->scan, keys, 2, NULL, 0);
	while ((tid = index_getnext_tid(versions->scan, BackwardScanDirection)) != NULL)
	{
		bool		isnull;

		if (is_visible(versions, tid))
			return DatumGetInt64(index_getattr(versions->scan->xs_itup, 2,
											   versions->scan->xs_itupdesc, &isnull));
	}
	versions->fetched = false;
	return 0;
}

/*
 * The version of a stream: that of its last event, or the last that is used; 0 if there
 * is none.
 */
int64
es_version_of(EsVersions *versions, const EsStream *stream)
{
	NotedVersion *noted = &noted_versions[(uint64) stream->key % NOTED_STREAMS];
	int64		from = noted->stream_key == stream->key ? noted->version : 0;
	int64		version = last_version_from(versions, stream->key, from);

	if (version == 0 && from > 0)
		version = last_version_from(versions, stream->key, 0);	/* (3) */
	noted->stream_key = stream->key;
	noted->version = version;
	return Max(stream->used_version, version);
}

/*
 * Does another snapshot see the event whose version was found last, too?  What the
 * visibility map vouches for is seen by all.
 */
bool
es_version_is_seen(EsVersions *versions, Snapshot snapshot)
{
	return !versions->fetched ||
		table_tuple_satisfies_snapshot(versions->log, versions->slot, snapshot);
}

/*
 * Look a stream up, and its version, as a snapshot of the database sees them; 0: none.
 */
int64
es_version_look_up(const EsCatalog *cat, Snapshot snapshot, EsStream *stream)
{
	EsStreams  *streams = es_streams_open(cat, AccessShareLock, snapshot);
	int64		version = 0;

	if (es_stream_find(streams, stream))
	{
		Relation	log = table_open(cat->event_log, AccessShareLock);
		EsVersions *versions = es_versions_open(cat, log, AccessShareLock, snapshot);

		version = es_version_of(versions, stream);
		es_versions_close(versions);
		table_close(log, NoLock);
	}
	es_streams_close(streams);
	return version;
}

/* ---- expected versions ---- */

void
es_version_raise(EsName stream, int64 expected, int64 actual)
{
	ereport(ERROR,
			(errcode(ES_WRONG_EXPECTED_VERSION),
			 errmsg("wrong expected version of stream \"" ES_NAME_FORMAT "\"",
					ES_NAME_ARGS(stream)),
			 expected == ES_EXPECT_EXISTS ?
			 errdetail("stream: " ES_NAME_FORMAT ", expected: at least one event, actual: %lld",
					   ES_NAME_ARGS(stream), (long long) actual) :
			 errdetail("stream: " ES_NAME_FORMAT ", expected: %lld, actual: %lld",
					   ES_NAME_ARGS(stream), (long long) expected, (long long) actual)));
}

/* An error if this cannot be an expected version. */
void
es_version_check_expected(int64 version)
{
	if (version >= 0 || version == ES_EXPECT_EXISTS)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("expected_version %lld is not valid", (long long) version),
			 version == -1 ?
			 errhint("Use 0 for a stream that has no events, NULL for any version.") :
			 errhint("Use a version, 0 for a stream that has no events, -4 for one that has, NULL for any.")));
}

/*
 * A deleted stream has no events, though its versions go on: 0 matches it, and so does
 * the last version.  Which of the others' events are shown is not asked here: see
 * streams/visible.c.
 */
bool
es_version_matches(const EsStream *stream, int64 expected, int64 actual)
{
	bool		empty = actual == 0 || (stream->deleted && actual == stream->used_version);

	if (expected == ES_EXPECT_EXISTS)
		return !empty;
	return expected == actual || (expected == 0 && empty);
}
