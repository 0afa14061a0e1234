/*
 * execute.c
 *		The append: from a checked call to stored events.
 *
 *	1 event_log is locked RowExclusive, as by an INSERT; after a restore, what inline
 *	  projections had applied is taken down (projections/control.c); then tags are locked,
 *	  and what a condition asks for (condition.c);
 *	2 the streams are locked in the byte order of their names (stream.c);
 *	3 as things stand now: is the call a duplicate (idempotency.c)?  If not,
 *	  expected versions are compared with the streams' versions, and the condition is
 *	  checked.  (Where each event is a call of its own, those that are duplicates are
 *	  taken out, and the rest goes on);
 *	4 positions are drawn, one range for the call (positions.c);
 *	5 the events are stored (writer.c);
 *	6 inline projections are applied (inline.c).
 *
 * Invariants
 * 1. All streams are locked before a position is drawn, so positions rise with
 *    the versions of a stream, and a call that fails its checks draws none.
 * 2. What an expected version is compared with is the committed truth: step 3
 *    comes after the locks and looks with SnapshotSelf, so it sees all that
 *    earlier writers of these streams have committed, and there can be no others.
 *    The same holds for an earlier attempt of the same call, which held these
 *    locks.
 * 3. The command counter moves on after the streams and after the events, so that
 *    triggers, and a second call in the same statement, see them.
 * 4. In SERIALIZABLE a stream that is written needs no predicate lock, for
 *    whoever writes it with an older snapshot is refused.  One that is only
 *    verified does: its next writer has nothing else to conflict with.
 *
 * Lock order: event_log, append_lock, tags, stream, event_type, registers, event_tag.
 * The first append after a restore locks rows of projection_progress before the rest.
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

#include "append/condition.h"
#include "append/execute.h"
#include "append/idempotency.h"
#include "append/inline.h"
#include "append/writer.h"
#include "core/uuid7.h"
#include "log/change.h"
#include "log/dictionary.h"
#include "log/positions.h"
#include "log/seal.h"
#include "log/version.h"
#include "projections/control.h"
#include "streams/visible.h"

/*
 * Compare an expected version.  "stored" is the version that the stream has in the log; the
 * call's own events come after it.
 */
static void
compare_expected(const EsCatalog *cat, const EsAppendStream *stream, int64 stored, int64 expected)
{
	if (!(stream->version == stored ?
		  es_visible_version_matches(cat, &stream->head, expected, stored) :
		  es_version_matches(&stream->head, expected, stream->version)))
		es_version_raise(stream->head.name, expected, stream->version);
}

/*
 * Number the call's events of a stream, and compare expected versions.
 */
static void
number_events(EsAppend *call, const EsCatalog *cat, EsAppendStream *stream)
{
	int64		stored = stream->version;

	call->current = stream->first >= 0 ? &call->events[stream->first] : NULL;
	if (stream->head.tombstoned && stream->first >= 0)
		es_stream_refuse_tombstoned(&stream->head);
	if (call->expects)
		compare_expected(cat, stream, stored, call->expected_version);

	for (int i = stream->first; i >= 0; i = call->events[i].next)
	{
		EsEvent    *event = &call->events[i];

		call->current = event;
		if (event->expects)
			compare_expected(cat, stream, stored, event->expected_version);
		event->version = ++stream->version;
	}
}

/*
 * In REPEATABLE READ and above, what somebody else has appended since the
 * transaction's snapshot is a serialization failure, unless an expected version
 * has already said so.  So is a stream's row that the snapshot does not see: the
 * transaction could not read its own events.
 */
static void
refuse_newer_append(EsVersions *versions, const EsAppendStream *stream)
{
	if (stream->head.unseen ||
		!es_version_is_seen(versions, GetTransactionSnapshot()))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent append to stream \"" ES_NAME_FORMAT "\"",
						ES_NAME_ARGS(stream->head.name)),
				 errhint("The transaction might succeed if retried.")));
}

/* Read the version as a serializable transaction does, to be held to it (4). */
static void
note_read(const EsCatalog *cat, Relation log, const EsAppendStream *stream)
{
	EsVersions *versions = es_versions_open(cat, log, RowExclusiveLock, GetTransactionSnapshot());

	(void) es_version_of(versions, &stream->head);
	es_versions_close(versions);
}

/*
 * Compare and number all events.  The streams are locked.
 */
static void
number_all(EsAppend *call, const EsCatalog *cat, Relation log)
{
	EsVersions *versions = es_versions_open(cat, log, RowExclusiveLock, SnapshotSelf);

	for (int i = 0; i < call->nstreams; i++)
	{
		EsAppendStream *stream = &call->streams[i];

		CHECK_FOR_INTERRUPTS();
		if (call->separate && stream->first < 0)
			continue;			/* all its events are duplicates */
		stream->version = stream->head.created ? 0 : es_version_of(versions, &stream->head);
		number_events(call, cat, stream);
		if (IsolationUsesXactSnapshot() && !stream->head.created)
			refuse_newer_append(versions, stream);
		if (IsolationIsSerializable() && stream->first < 0)
			note_read(cat, log, stream);
	}
	call->current = NULL;
	es_versions_close(versions);
}

/* What to sort streams by. */
typedef struct NameOrder
{
	EsName		name;
	int			stream;
} NameOrder;

static int
compare_name_order(const void *a, const void *b)
{
	return es_name_compare(((const NameOrder *) a)->name, ((const NameOrder *) b)->name);
}

static NameOrder *
streams_by_name(const EsAppend *call)
{
	NameOrder  *order = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(NameOrder) * call->nstreams);

	for (int i = 0; i < call->nstreams; i++)
	{
		order[i].name = call->streams[i].head.name;
		order[i].stream = i;
	}
	qsort(order, call->nstreams, sizeof(NameOrder), compare_name_order);
	return order;
}

static void
lock_streams(EsAppend *call, const EsCatalog *cat)
{
	EsStreams  *streams = es_streams_open(cat, RowExclusiveLock, SnapshotSelf);
	NameOrder  *order = streams_by_name(call);

	for (int i = 0; i < call->nstreams; i++)
		es_stream_lock(streams, &call->streams[order[i].stream].head);
	pfree(order);
	es_streams_close(streams);
	CommandCounterIncrement();	/* (3) */
}

/* Type keys: one look-up for a run of events of one stream and type. */
static void
assign_type_keys(EsAppend *call, const EsCatalog *cat)
{
	for (int i = 0; i < call->nevents; i++)
	{
		EsEvent    *event = &call->events[i];
		EsEvent    *before = i > 0 ? event - 1 : NULL;

		CHECK_FOR_INTERRUPTS();
		if (before != NULL && before->stream == event->stream &&
			before->schema_version == event->schema_version &&
			es_name_equal(before->type, event->type) &&
			es_name_equal(before->content_type, event->content_type))
			event->type_key = before->type_key;
		else
			event->type_key = es_dictionary_key(cat, call->streams[event->stream].category,
												event->type, event->schema_version, event->content_type);
	}
}

/* The id of an event that the caller gave none. */
static void
assign_id(EsEvent *event)
{
	event->has_derived_id = es_uuid7_has_time(event->created_at);
	if (!event->has_derived_id)
		es_uuid7_make_random(&event->id);
}

/* Give the events what they still lack, and store them. */
static void
store_events(EsAppend *call, const EsCatalog *cat, Relation log)
{
	int64		position;
	TimestampTz now;

	assign_type_keys(call, cat);
	for (int i = 0; i < call->nstreams; i++)
		call->streams[i].name = es_name_to_text(call->streams[i].head.name);
	position = es_positions_draw(es_positions_attach(cat), cat, call->nevents);
	now = GetCurrentTimestamp();
	for (int i = 0; i < call->nevents; i++)
	{
		EsEvent    *event = &call->events[i];

		event->position = position + i;
		if (!event->has_created_at)
			event->created_at = now;
		if (!call->has_ids)
			assign_id(event);
		call->streams[event->stream].position = event->position;
	}
	es_writer_store(call, cat, log);
}

static void
store_and_apply(EsAppend *call, const EsCatalog *cat, Relation log)
{
	es_activity_begin(ES_STORING);
	PG_TRY();
	{
		store_events(call, cat, log);
		CommandCounterIncrement();	/* (3) */
	}
	PG_FINALLY();
	{
		es_activity_end(ES_STORING);
	}
	PG_END_TRY();
	es_inline_apply(cat, call);
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

	es_write_begin(call->function);
	cat = es_seal_lock_log();
	es_control_settle(cat);
	log = table_open(cat->event_log, NoLock);
	es_condition_lock(call, cat, log);
	lock_streams(call, cat);

	/* (2) */
	if (call->has_ids && call->separate)
		es_idempotency_drop_duplicates(call, cat, log);
	else
		call->duplicate = call->has_ids && es_idempotency_is_duplicate(call, cat, log);
	if (!call->duplicate)
	{
		number_all(call, cat, log);
		es_condition_check(call, cat);
	}

	if (!call->duplicate && call->nevents > 0)
		store_and_apply(call, cat, log);
	table_close(log, NoLock);
}
