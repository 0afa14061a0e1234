/*
 * stream.c
 *		The row of a stream: its lock orders the writers of the stream.
 *
 * Without SQL underneath: the row is found where it was seen last (place.c) or by the
 * index on the name, and locked as by SELECT ... FOR NO KEY UPDATE.  No append
 * updates it.  A row that carried the version would leave a dead row behind with every
 * append; while some old snapshot is open (a dump) these cannot be pruned, and each
 * append to a busy stream would have to walk past all of them.  The version is that of the
 * stream's last event instead: see version.c.  What takes events away updates it
 * (streams/lifecycle.c).
 *
 * The lock is written into the row: 50 bytes of WAL, and right after a checkpoint a whole page
 * where nobody has touched that yet.  A lock in shared memory would cost neither, but has room
 * for some thousand streams of all transactions, and a call can have more.
 *
 * A new stream is a speculative insertion, as INSERT ... ON CONFLICT makes it
 * (executor/README, "Speculative insertion"): two creators of one name neither
 * deadlock nor fail; one waits for the other, and finds the row or makes it.
 *
 * Invariants
 * 1. Whoever adds events to a stream holds its row, locked or inserted by the same
 *    transaction, until commit (or until ROLLBACK TO takes both back).
 * 2. An append looks with SnapshotSelf, which judges each row as of this moment:
 *    what has been committed, and the transaction's own.  It leaves no predicate
 *    locks either, which would make serializable appends to different streams
 *    fail by the pages that these share: an append conflicts by its row lock.
 * 3. Streams of one call are locked in the byte order of their names.
 * 4. What is found at a place that was told is the stream's row if the snapshot sees it
 *    and it has the name, for names are unique.  Anything may stand there else: vacuum
 *    gives the places of dead rows to others, and the end of the table may lie before.
 * 5. A row that was seen stays where it is as long as its page is pinned, for
 *    nobody prunes a pinned page.  So it is the row that was seen that gets locked.
 *
 * Lock order: event_log, stream.
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "executor/tuptable.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/errors.h"
#include "core/slot.h"
#include "core/target.h"
#include "log/place.h"
#include "log/positions.h"
#include "log/stream.h"

struct EsStreams
{
	const EsCatalog *cat;
	LOCKMODE	lockmode;
	Relation	rel;
	BlockNumber blocks;			/* the table has these at least */
	Snapshot	snapshot;
	TupleTableSlot *found;		/* the row that was found last */

	/* to look by name, opened when needed */
	Relation	name_index;
	IndexScanDesc scan;

	/* to create and update streams, made when needed */
	TupleTableSlot *made;
	EsTarget	target;
};

/*
 * Open the table; streams are looked up with the snapshot, which the caller has
 * registered for as long as they are.
 */
EsStreams *
es_streams_open(const EsCatalog *cat, LOCKMODE lockmode, Snapshot snapshot)
{
	EsStreams  *streams = palloc0(sizeof(EsStreams));

	streams->cat = cat;
	streams->lockmode = lockmode;
	streams->rel = table_open(cat->stream, lockmode);
	es_catalog_refresh();
	streams->found = table_slot_create(streams->rel, NULL);
	streams->snapshot = snapshot;
	return streams;
}

static void
open_name_index(EsStreams *streams, int nkeys)
{
	streams->name_index = index_open(streams->cat->stream_name, streams->lockmode);
	streams->scan = es_compat_index_beginscan(streams->rel, streams->name_index, streams->snapshot, nkeys);
}

void
es_streams_close(EsStreams *streams)
{
	if (streams->name_index != NULL)
	{
		index_endscan(streams->scan);
		index_close(streams->name_index, NoLock);
	}
	if (streams->target.relinfo != NULL)
	{
		ExecDropSingleTupleTableSlot(streams->made);
		ExecCloseIndices(streams->target.relinfo);
		es_target_close(&streams->target);
	}
	ExecDropSingleTupleTableSlot(streams->found);
	table_close(streams->rel, NoLock);
	pfree(streams);
}

static void
read_stream_row(TupleTableSlot *slot, EsStream *stream)
{
	slot_getsomeattrs(slot, ES_STREAM_COLS);
	stream->key = DatumGetInt64(es_slot_or_0(slot, ES_STREAM_COL_KEY));
	stream->first_version = DatumGetInt64(es_slot_or_0(slot, ES_STREAM_COL_FIRST));
	stream->used_version = DatumGetInt64(es_slot_or_0(slot, ES_STREAM_COL_USED));
	stream->deleted = DatumGetBool(es_slot_or_0(slot, ES_STREAM_COL_DELETED));
	stream->tombstoned = DatumGetBool(es_slot_or_0(slot, ES_STREAM_COL_TOMBSTONED));
}

/*
 * Look at a place for the stream (4).
 */
static bool
find_at_place(EsStreams *streams, EsName name, ItemPointer place)
{
	bool		isnull;

	if (ItemPointerGetBlockNumber(place) >= streams->blocks)
	{
		streams->blocks = RelationGetNumberOfBlocks(streams->rel);
		if (ItemPointerGetBlockNumber(place) >= streams->blocks)
			return false;
	}
	return table_tuple_fetch_row_version(streams->rel, place, streams->snapshot, streams->found) &&
		es_name_equal(es_name_from_text(slot_getattr(streams->found, ES_STREAM_COL_NAME, &isnull)), name);
}

static bool
find_by_index(EsStreams *streams, EsName name)
{
	text	   *value = es_name_to_text(name);
	ScanKeyData key;
	bool		found;

	if (streams->name_index == NULL)
		open_name_index(streams, 1);
	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   streams->name_index->rd_indcollation[0],
						   F_TEXTEQ, PointerGetDatum(value));
	index_rescan(streams->scan, &key, 1, NULL, 0);
	found = index_getnext_slot(streams->scan, ForwardScanDirection, streams->found);
	pfree(value);
	return found;
}

/*
 * Look the stream up by its name.
 */
bool
es_stream_find(EsStreams *streams, EsStream *stream)
{
	uint64		hash = es_place_hash(RelationGetRelid(streams->rel), stream->name);
	ItemPointerData place;

	if (!es_place_recall(hash, &place) || !find_at_place(streams, stream->name, &place))
	{
		if (!find_by_index(streams, stream->name))
		{
			stream->key = 0;
			return false;
		}
		es_place_remember(hash, &streams->found->tts_tid);
	}
	read_stream_row(streams->found, stream);
	return true;
}

static void
prepare_to_write(EsStreams *streams)
{
	if (streams->target.relinfo != NULL)
		return;
	streams->target = es_target_open(streams->rel);
	ExecOpenIndices(streams->target.relinfo, true);
	streams->made = MakeSingleTupleTableSlot(RelationGetDescr(streams->rel),
											 table_slot_callbacks(streams->rel));
}

/* 0 is stored as NULL: the rows of most streams need no more than key and name. */
static void
set_unless_0(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column - 1] = value;
	slot->tts_isnull[column - 1] = value == 0;
}

static TupleTableSlot *
make_row(EsStreams *streams, const EsStream *stream)
{
	TupleTableSlot *slot = ExecClearTuple(streams->made);

	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	set_unless_0(slot, ES_STREAM_COL_KEY, Int64GetDatum(stream->key));
	set_unless_0(slot, ES_STREAM_COL_NAME,
				 PointerGetDatum(cstring_to_text_with_len(stream->name.bytes, stream->name.len)));
	return ExecStoreVirtualTuple(slot);
}

/*
 * Create the stream's row.  False if somebody else did.  A column that somebody
 * has added to the table stays NULL.
 */
static bool
create_stream(EsStreams *streams, EsStream *stream)
{
	List	   *name_only = list_make1_oid(streams->cat->stream_name);
	TupleTableSlot *row;
	bool		created = false;

	prepare_to_write(streams);
	stream->first_version = stream->used_version = 0;
	stream->deleted = stream->tombstoned = false;
	stream->key = es_stream_keys_draw(es_positions_attach(streams->cat), streams->cat);
	row = make_row(streams, stream);
	while (!created)
	{
		ItemPointerData tid;
		uint32		token;
		bool		conflict = false;

		CHECK_FOR_INTERRUPTS();
		/* waits for whoever is making a row of this name */
		if (!es_compat_check_arbiters(streams->target.relinfo, row, streams->target.estate,
									  &tid, name_only))
			break;

		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(streams->rel, row, GetCurrentCommandId(true),
									   0, NULL, token);
		list_free(es_compat_index_inserted(streams->target.relinfo, row, streams->target.estate,
										   &conflict, name_only));
		table_tuple_complete_speculative(streams->rel, row, token, !conflict);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
		created = !conflict;
	}
	list_free(name_only);
	if (created)
		es_place_remember(es_place_hash(RelationGetRelid(streams->rel), stream->name), &row->tts_tid);
	return created;
}

/*
 * Can the snapshot of a REPEATABLE READ transaction see the row in "found"?
 */
static bool
row_is_seen(EsStreams *streams)
{
	return !IsolationUsesXactSnapshot() ||
		table_tuple_satisfies_snapshot(streams->rel, streams->found, GetTransactionSnapshot());
}

/*
 * Keep the page of a row that is in the slot, beyond the slot's own pin (5).
 */
static Buffer
pin_page_again(TupleTableSlot *slot)
{
	Buffer		page = TTS_IS_BUFFERTUPLE(slot) ? ((BufferHeapTupleTableSlot *) slot)->buffer : InvalidBuffer;

	if (BufferIsValid(page))
		IncrBufferRefCount(page);
	return page;
}

/*
 * Lock the row that es_stream_find came to.  False if it has been updated, or deleted: that is
 * the work of somebody who went around the guard, or of DROP EXTENSION.
 */
static bool
lock_stream_row(EsStreams *streams, LockWaitPolicy policy)
{
	TM_FailureData failure;
	ItemPointerData tid = streams->found->tts_tid;
	Buffer		page = pin_page_again(streams->found);
	TM_Result	result;

	ExecClearTuple(streams->found);
	result = table_tuple_lock(streams->rel, &tid, streams->snapshot, streams->found,
							  GetCurrentCommandId(false), LockTupleNoKeyExclusive,
							  policy, 0, &failure);
	if (BufferIsValid(page))
		ReleaseBuffer(page);
	if (result == TM_Ok)
		return true;
	if (result == TM_Updated || result == TM_Deleted || result == TM_WouldBlock)
		return false;
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("a stream cannot be changed by the command that made it")));
	return false;
}

/*
 * Take the stream for this transaction, making it if there is none.  Waits for
 * its other writers.
 */
void
es_stream_lock(EsStreams *streams, EsStream *stream)
{
	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		stream->created = false;
		if (es_stream_find(streams, stream))
		{
			if (lock_stream_row(streams, LockWaitBlock))
			{
				stream->unseen = !row_is_seen(streams);
				return;
			}
		}
		else if (create_stream(streams, stream))
		{
			stream->created = true;
			stream->unseen = false;
			return;
		}
		/* Somebody was faster: look again. */
	}
}

void
es_stream_refuse_tombstoned(const EsStream *stream)
{
	ereport(ERROR,
			(errcode(ES_STREAM_TOMBSTONED),
			 errmsg("stream \"" ES_NAME_FORMAT "\" is tombstoned", ES_NAME_ARGS(stream->name)),
			 errdetail("It is gone for good and takes no more events.")));
}

/*
 * Take a stream that nobody else holds.  False: somebody does, or it is not there.
 */
bool
es_stream_try_lock(EsStreams *streams, EsStream *stream)
{
	return es_stream_find(streams, stream) && lock_stream_row(streams, LockWaitSkip);
}

/*
 * Store what the stream has become.  Its lock is held, and its row stands in "found":
 * no other stream was looked up since.
 */
void
es_stream_update(EsStreams *streams, const EsStream *stream)
{
	ItemPointerData tid;
	TupleTableSlot *row;

	prepare_to_write(streams);
	if (stream->created)
	{
		EsStream	again = *stream;

		if (!es_stream_find(streams, &again))
			elog(ERROR, "stream " ES_NAME_FORMAT " is not where it was created", ES_NAME_ARGS(stream->name));
	}
	tid = streams->found->tts_tid;
	slot_getallattrs(streams->found);
	row = ExecClearTuple(streams->made);
	memcpy(row->tts_values, streams->found->tts_values, sizeof(Datum) * row->tts_tupleDescriptor->natts);
	memcpy(row->tts_isnull, streams->found->tts_isnull, sizeof(bool) * row->tts_tupleDescriptor->natts);
	set_unless_0(row, ES_STREAM_COL_FIRST, Int64GetDatum(stream->first_version));
	set_unless_0(row, ES_STREAM_COL_USED, Int64GetDatum(stream->used_version));
	set_unless_0(row, ES_STREAM_COL_DELETED, BoolGetDatum(stream->deleted));
	set_unless_0(row, ES_STREAM_COL_TOMBSTONED, BoolGetDatum(stream->tombstoned));
	ExecStoreVirtualTuple(row);
	es_compat_update_row(streams->target.relinfo, &tid, row, streams->target.estate, streams->snapshot);
	CommandCounterIncrement();
}

/*
 * The keys of the streams of a category; -1 if there are more than max.  They
 * stand together in the index on the name, which orders by bytes: the category
 * itself, and from "category-" to before "category.".  Bare UUIDs, which have the
 * category '', stand anywhere: -1.
 */
int
es_streams_of_category(const EsCatalog *cat, Snapshot snapshot, EsName category,
					   int64 *keys, int max)
{
	EsStreams  *streams;
	ScanKeyData range[2];
	char	   *bound;
	int			n = 0;

	StaticAssertStmt('-' + 1 == '.', "the range of a category's names is wrong");
	if (category.len == 0)
		return -1;
	streams = es_streams_open(cat, AccessShareLock, snapshot);
	open_name_index(streams, 2);
	bound = psprintf(ES_NAME_FORMAT ".", ES_NAME_ARGS(category));
	ScanKeyEntryInitialize(&range[0], 0, 1, BTGreaterEqualStrategyNumber, InvalidOid,
						   streams->name_index->rd_indcollation[0], F_TEXT_GE,
						   PointerGetDatum(cstring_to_text_with_len(category.bytes, category.len)));
	ScanKeyEntryInitialize(&range[1], 0, 1, BTLessStrategyNumber, InvalidOid,
						   streams->name_index->rd_indcollation[0], F_TEXT_LT,
						   PointerGetDatum(cstring_to_text(bound)));
	index_rescan(streams->scan, range, 2, NULL, 0);
	while (index_getnext_slot(streams->scan, ForwardScanDirection, streams->found))
	{
		bool		isnull;
		EsName		found = es_name_category(es_name_from_text(slot_getattr(streams->found,
																			ES_STREAM_COL_NAME, &isnull)));

		CHECK_FOR_INTERRUPTS();
		/* names with a byte below '-' after the category stand here too */
		if (!es_name_equal(found, category))
			continue;
		if (n == max)
		{
			n = -1;
			break;
		}
		keys[n++] = DatumGetInt64(slot_getattr(streams->found, ES_STREAM_COL_KEY, &isnull));
	}
	es_streams_close(streams);
	return n;
}
