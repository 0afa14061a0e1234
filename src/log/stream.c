/*
 * stream.c
 *		The head row of a stream: its lock orders the writers of the stream, and
 *		its version is the truth about the stream.
 *
 * Without SQL underneath: the row is found by the index on the name, and locked
 * by the very update that moves its version on (a HOT update: no index changes).
 *
 *	find	look the stream up with a recent snapshot;
 *	claim	move the version on from what find saw.  If the row has changed
 *			since, false: the caller finds again.  So whatever the caller decided
 *			from the snapshot holds under the lock too;
 *	settled lock the row as find saw it, or wait for whoever is creating it: used
 *			before an append is refused, so that a refusal too rests on the
 *			committed truth.
 *
 * A new stream is a speculative insertion, as INSERT ... ON CONFLICT makes it
 * (executor/README, "Speculative insertion"): two creators of one name neither
 * deadlock nor fail; one waits for the other, and finds the row or makes it.
 *
 * Invariants
 * 1. Whoever adds events to a stream holds its row, updated or inserted by the
 *    same transaction, until commit.
 * 2. find and claim of one stream use the same snapshot.
 * 3. Streams of one call are claimed in the byte order of their names.
 *
 * Locks: RowExclusive on stream, after event_log; then rows.
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
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "log/registry.h"
#include "log/stream.h"

struct EsStreams
{
	const EsCatalog *cat;
	Relation	rel;
	Relation	name_index;
	LOCKMODE	lockmode;
	Snapshot	snapshot;		/* of the scan */
	IndexScanDesc scan;
	TupleTableSlot *found;		/* the row that find came to */
	TupleTableSlot *write;		/* the row to store */

	/* for insertion into the indexes, made when needed */
	EState	   *estate;
	ResultRelInfo *relinfo;
};

EsStreams *
es_streams_open(const EsCatalog *cat, bool write)
{
	EsStreams  *streams = palloc0(sizeof(EsStreams));

	streams->cat = cat;
	streams->lockmode = write ? RowExclusiveLock : AccessShareLock;
	streams->rel = table_open(cat->stream, streams->lockmode);
	streams->name_index = index_open(cat->stream_name, streams->lockmode);
	streams->found = table_slot_create(streams->rel, NULL);
	return streams;
}

static void
end_scan(EsStreams *streams)
{
	if (streams->scan == NULL)
		return;
	ExecClearTuple(streams->found);
	index_endscan(streams->scan);
	UnregisterSnapshot(streams->snapshot);
	streams->scan = NULL;
}

void
es_streams_close(EsStreams *streams)
{
	end_scan(streams);
	if (streams->relinfo != NULL)
	{
		ExecCloseIndices(streams->relinfo);
		ExecResetTupleTable(streams->estate->es_tupleTable, false);
		FreeExecutorState(streams->estate);
	}
	if (streams->write != NULL)
		ExecDropSingleTupleTableSlot(streams->write);
	ExecDropSingleTupleTableSlot(streams->found);
	index_close(streams->name_index, NoLock);
	table_close(streams->rel, NoLock);
	pfree(streams);
}

/* Look with this snapshot from now on.  What is returned lives until the next. */
Snapshot
es_streams_look(EsStreams *streams, Snapshot snapshot)
{
	end_scan(streams);
	streams->snapshot = RegisterSnapshot(snapshot);
	streams->scan = index_beginscan(streams->rel, streams->name_index,
									streams->snapshot, 1, 0);
	return streams->snapshot;
}

/*
 * Look the stream up by its name.
 */
bool
es_stream_find(EsStreams *streams, EsStream *stream)
{
	text	   *name = cstring_to_text_with_len(stream->name.bytes, stream->name.len);
	ScanKeyData key;
	bool		isnull;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   streams->name_index->rd_indcollation[0],
						   F_TEXTEQ, PointerGetDatum(name));
	index_rescan(streams->scan, &key, 1, NULL, 0);
	stream->exists = index_getnext_slot(streams->scan, ForwardScanDirection, streams->found);
	stream->key = 0;
	stream->version = 0;
	if (stream->exists)
	{
		stream->key = DatumGetInt64(slot_getattr(streams->found, ES_STREAM_COL_KEY, &isnull));
		stream->version = DatumGetInt64(slot_getattr(streams->found, ES_STREAM_COL_VERSION, &isnull));
	}
	pfree(name);
	return stream->exists;
}

/*
 * In REPEATABLE READ and above: has somebody else changed the stream since the
 * transaction's snapshot?  Of the row that find has just come to.
 */
bool
es_stream_changed_after_snapshot(EsStreams *streams, const EsStream *stream)
{
	return IsolationUsesXactSnapshot() && stream->exists &&
		!table_tuple_satisfies_snapshot(streams->rel, streams->found,
										GetTransactionSnapshot());
}

static void
open_indexes(EsStreams *streams)
{
	RangeTblEntry *rte;

	if (streams->relinfo != NULL)
		return;
	rte = makeNode(RangeTblEntry);
	rte->rtekind = RTE_RELATION;
	rte->relid = streams->cat->stream;
	rte->relkind = RELKIND_RELATION;
	rte->rellockmode = RowExclusiveLock;
	streams->estate = CreateExecutorState();
	ExecInitRangeTable(streams->estate, list_make1(rte));
	streams->relinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(streams->relinfo, streams->rel, 1, NULL, 0);
	ExecOpenIndices(streams->relinfo, true);
}

/* The row to store: that which find came to, or a new one, with a version. */
static TupleTableSlot *
make_row(EsStreams *streams, const EsStream *stream, int64 version)
{
	TupleDesc	desc = RelationGetDescr(streams->rel);
	TupleTableSlot *slot;

	if (streams->write == NULL)
		streams->write = MakeSingleTupleTableSlot(desc, table_slot_callbacks(streams->rel));
	slot = streams->write;
	ExecClearTuple(slot);
	if (stream->exists)
	{
		slot_getallattrs(streams->found);
		memcpy(slot->tts_values, streams->found->tts_values, sizeof(Datum) * desc->natts);
		memcpy(slot->tts_isnull, streams->found->tts_isnull, sizeof(bool) * desc->natts);
	}
	else
	{
		memset(slot->tts_isnull, true, sizeof(bool) * desc->natts);
		slot->tts_values[ES_STREAM_COL_KEY - 1] = Int64GetDatum(stream->key);
		slot->tts_isnull[ES_STREAM_COL_KEY - 1] = false;
		slot->tts_values[ES_STREAM_COL_NAME - 1] =
			PointerGetDatum(cstring_to_text_with_len(stream->name.bytes, stream->name.len));
		slot->tts_isnull[ES_STREAM_COL_NAME - 1] = false;
	}
	slot->tts_values[ES_STREAM_COL_VERSION - 1] = Int64GetDatum(version);
	slot->tts_isnull[ES_STREAM_COL_VERSION - 1] = false;
	ExecStoreVirtualTuple(slot);
	return slot;
}

/*
 * Is a row of this name there or being made, by anybody?  Waits for whoever is
 * making it.
 */
static bool
name_is_taken(EsStreams *streams, TupleTableSlot *row)
{
	ItemPointerData tid;

	return !ExecCheckIndexConstraints(streams->relinfo, row, streams->estate, &tid,
									  list_make1_oid(streams->cat->stream_name));
}

/*
 * Create the head row.  False if somebody else did.
 */
static bool
create_stream(EsStreams *streams, EsStream *stream, int64 version)
{
	TupleTableSlot *row;

	open_indexes(streams);
	stream->key = es_stream_keys_draw(es_positions_attach(streams->cat), streams->cat);
	row = make_row(streams, stream, version);
	for (;;)
	{
		uint32		token;
		bool		conflict = false;

		CHECK_FOR_INTERRUPTS();
		if (name_is_taken(streams, row))
			return false;

		token = SpeculativeInsertionLockAcquire(GetCurrentTransactionId());
		table_tuple_insert_speculative(streams->rel, row, GetCurrentCommandId(true),
									   0, NULL, token);
		list_free(ExecInsertIndexTuples(streams->relinfo, row, streams->estate,
										false, true, &conflict,
										list_make1_oid(streams->cat->stream_name)));
		table_tuple_complete_speculative(streams->rel, row, token, !conflict);
		SpeculativeInsertionLockRelease(GetCurrentTransactionId());
		if (!conflict)
			return true;
	}
}

static bool
unchanged(TM_Result result)
{
	switch (result)
	{
		case TM_Ok:
			return true;
		case TM_Updated:
		case TM_Deleted:
			return false;
		default:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a stream cannot be changed twice by the same command")));
	}
	return false;
}

/*
 * Take the stream for this transaction and move its version on.  False if it is
 * no longer as find saw it.
 */
bool
es_stream_claim(EsStreams *streams, EsStream *stream, int64 new_version)
{
	TupleTableSlot *row;
	TM_FailureData failure;
	LockTupleMode lockmode;
	bool		update_indexes;
	TM_Result	result;

	if (!stream->exists)
		return create_stream(streams, stream, new_version);

	row = make_row(streams, stream, new_version);
	result = table_tuple_update(streams->rel, &streams->found->tts_tid, row,
								GetCurrentCommandId(true), streams->snapshot,
								InvalidSnapshot, true,
								&failure, &lockmode, &update_indexes);
	if (!unchanged(result))
		return false;
	if (update_indexes)
	{
		open_indexes(streams);
		list_free(ExecInsertIndexTuples(streams->relinfo, row, streams->estate,
										true, false, NULL, NIL));
	}
	return true;
}

/*
 * Is what find saw the committed truth?  True: the row is locked now, or there
 * is none and nobody is making one.  False: find again.
 */
bool
es_stream_settled(EsStreams *streams, EsStream *stream)
{
	TM_FailureData failure;
	ItemPointerData tid;

	if (!stream->exists)
	{
		open_indexes(streams);
		return !name_is_taken(streams, make_row(streams, stream, 0));
	}
	tid = streams->found->tts_tid;
	ExecClearTuple(streams->found);
	return unchanged(table_tuple_lock(streams->rel, &tid,
									  streams->snapshot, streams->found,
									  GetCurrentCommandId(false),
									  LockTupleNoKeyExclusive, LockWaitBlock, 0,
									  &failure));
}
