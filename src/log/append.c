/*
 * append.c
 *		The append: from a checked call to stored events.
 *
 *	1 event_log is locked RowExclusive, as by an INSERT;
 *	2 the streams are claimed in the byte order of their names: found with a
 *	  recent snapshot, expected versions compared, head row moved on (stream.c);
 *	3 positions are drawn, one range for the call (positions.c);
 *	4 the events are stored (writer.c).
 *
 * A call with event ids first looks whether they stand in the log already.  It
 * looks with the snapshot that the first stream is then claimed with.  An earlier
 * attempt of the same call holds that stream until it ends: so if it has
 * committed before our claim, the claim fails, and we look again with a newer
 * snapshot; if it is in progress, the claim waits for it first.
 *
 * Invariants
 * 1. All streams are held before a position is drawn, so positions rise with the
 *    versions of a stream, and a call that fails its checks draws none.
 * 2. What an expected version is compared with is the committed truth: a match is
 *    confirmed by the claim, a mismatch by es_stream_settled.
 * 3. The command counter moves on after the heads and after the events, so that
 *    triggers, and a second call in the same statement, see them.
 *
 * Lock order: event_log, stream, rows of stream by name, event_type, registers.
 * Two calls in one transaction may take streams in any order; a deadlock then
 * is detected as with any rows (40P01).
 *
 * Crash: everything stored belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "log/append.h"
#include "log/dictionary.h"
#include "log/registry.h"
#include "log/seal.h"

static void
raise_wrong_version(EsName stream, int64 expected, int64 actual)
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

static bool
version_matches(int64 expected, int64 actual)
{
	return expected == ES_EXPECT_EXISTS ? actual > 0 : expected == actual;
}

/*
 * Go through the call's events of a stream: number them, and compare expected
 * versions.  Returns false and the first that does not match.
 */
static bool
number_events(EsAppend *call, int stream_no, int64 *expected, int64 *actual)
{
	EsAppendStream *stream = &call->streams[stream_no];

	stream->version = stream->head.version;
	if (call->expects && !version_matches(call->expected_version, stream->version))
	{
		*expected = call->expected_version;
		*actual = stream->version;
		return false;
	}
	for (int i = stream->first; i >= 0; i = call->events[i].next)
	{
		EsEvent    *event = &call->events[i];

		if (event->expects && !version_matches(event->expected_version, stream->version))
		{
			*expected = event->expected_version;
			*actual = stream->version;
			return false;
		}
		event->version = ++stream->version;
	}
	return true;
}

/*
 * Claim a stream.  False: it has changed meanwhile, look again with a newer
 * snapshot.
 */
static bool
claim_stream(EsAppend *call, EsStreams *streams, int stream_no)
{
	EsAppendStream *stream = &call->streams[stream_no];
	bool		too_new = es_stream_changed_after_snapshot(streams, &stream->head);
	int64		expected;
	int64		actual;

	if (!number_events(call, stream_no, &expected, &actual))
	{
		if (!es_stream_settled(streams, &stream->head))
			return false;
		raise_wrong_version(stream->head.name, expected, actual);
	}
	if (too_new)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent append to stream \"" ES_NAME_FORMAT "\"",
						ES_NAME_ARGS(stream->head.name)),
				 errhint("The transaction might succeed if retried.")));

	/* Nothing to store: the row is only locked, and made if there is none. */
	if (stream->first < 0 && stream->head.exists)
		return es_stream_settled(streams, &stream->head);
	return es_stream_claim(streams, &stream->head, stream->version);
}

/* What to sort streams by. */
typedef struct NameOrder
{
	EsName		name;
	int			stream;
} NameOrder;

static int
compare_names(const void *a, const void *b)
{
	EsName		x = ((const NameOrder *) a)->name;
	EsName		y = ((const NameOrder *) b)->name;
	int			order = memcmp(x.bytes, y.bytes, Min(x.len, y.len));

	return order != 0 ? order : x.len - y.len;
}

static NameOrder *
streams_by_name(const EsAppend *call)
{
	NameOrder  *order = palloc(sizeof(NameOrder) * call->nstreams);

	for (int i = 0; i < call->nstreams; i++)
	{
		order[i].name = call->streams[i].head.name;
		order[i].stream = i;
	}
	qsort(order, call->nstreams, sizeof(NameOrder), compare_names);
	return order;
}

/*
 * Claim all streams of the call, or find that it is a duplicate: then nothing
 * is claimed, and false is returned.
 */
static bool
claim_all(EsAppend *call, const EsCatalog *cat, Relation log)
{
	EsStreams  *streams = es_streams_open(cat, true);
	NameOrder  *order = streams_by_name(call);
	Snapshot	snapshot = NULL;
	bool		look = true;

	for (int i = 0; i < call->nstreams;)
	{
		EsAppendStream *stream = &call->streams[order[i].stream];

		CHECK_FOR_INTERRUPTS();
		if (look)
			snapshot = es_streams_look(streams, GetLatestSnapshot());
		es_stream_find(streams, &stream->head);
		if (i == 0 && call->has_ids &&
			es_idempotency_is_duplicate(call, cat, log, snapshot))
		{
			call->duplicate = true;
			break;
		}
		look = !claim_stream(call, streams, order[i].stream);
		if (!look)
			i++;
	}
	es_streams_close(streams);
	pfree(order);
	return !call->duplicate;
}

/* Type keys: one look-up for a run of events of one stream and type. */
static void
assign_type_keys(EsAppend *call, const EsCatalog *cat)
{
	for (int i = 0; i < call->nevents; i++)
	{
		EsEvent    *event = &call->events[i];
		EsEvent    *before = i > 0 ? event - 1 : NULL;

		if (before != NULL && before->stream == event->stream &&
			before->schema_version == event->schema_version &&
			before->type.len == event->type.len &&
			memcmp(before->type.bytes, event->type.bytes, event->type.len) == 0)
			event->type_key = before->type_key;
		else
			event->type_key = es_dictionary_key(cat,
												es_name_category(call->streams[event->stream].head.name),
												event->type, event->schema_version);
	}
}

static void
assign_ids(EsAppend *call, TimestampTz now)
{
	pg_uuid_t  *ids;

	if (call->has_ids)
		return;
	ids = palloc(sizeof(pg_uuid_t) * call->nevents);
	es_uuid7_generate(ids, call->nevents, now);
	for (int i = 0; i < call->nevents; i++)
		call->events[i].id = ids[i];
	pfree(ids);
}

/*
 * Carry the call out.  Afterwards version and position of each stream, and
 * call->duplicate, are the result.
 */
void
es_append_execute(EsAppend *call)
{
	const EsCatalog *cat;
	Relation	log;
	int64		position;
	TimestampTz now;

	es_registry_require();
	PreventCommandDuringRecovery(call->function);
	PreventCommandIfReadOnly(call->function);
	PreventCommandIfParallelMode(call->function);

	log = es_seal_open_log();
	cat = es_catalog();
	if (!claim_all(call, cat, log))
	{
		table_close(log, NoLock);
		return;
	}
	CommandCounterIncrement();	/* (3) */

	if (call->nevents > 0)
	{
		assign_type_keys(call, cat);
		position = es_positions_draw(es_positions_attach(cat), cat, call->nevents);
		now = GetCurrentTimestamp();
		assign_ids(call, now);
		for (int i = 0; i < call->nevents; i++)
		{
			EsEvent    *event = &call->events[i];

			event->position = position + i;
			if (event->created_at == 0)
				event->created_at = now;
			call->streams[event->stream].position = event->position;
		}
		es_writer_store(call, cat, log);
		CommandCounterIncrement();	/* (3) */
	}
	table_close(log, NoLock);
}
