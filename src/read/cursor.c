/*
 * cursor.c
 *		Events in the order of positions (or versions), from one index range or
 *		merged from several.
 *
 * Each branch is a range scan of one index, already in order.  A cursor of one
 * branch is read straight; several are merged with a heap on the position of
 * their next event.  A read by category or type has a branch a type key, so that
 * it costs in proportion to what it returns, whatever else is in the log.
 *
 * A branch over the positions of one stream goes along its versions, for
 * positions rise with them; where the range of positions begins in the stream is
 * found by halving.
 *
 * Where nothing but positions (or versions) is wanted, they are taken from the entries of the
 * index, and the heap is only asked where the visibility map does not answer, as in an
 * index-only scan (executor/nodeIndexonlyscan.c).  As there, the page of the index stays pinned,
 * also while an SQL cursor stands still: a VACUUM of that page waits for it.
 *
 * Invariants
 * 1. The snapshot is registered by the caller for as long as the cursor is open, and is not
 *    SnapshotSelf if the cursor goes by entries.
 * 2. No event is in two branches.
 * 3. What is allocated while reading must stay as long as the cursor: it is called in a memory
 *    context that does.
 *
 * Locks: AccessShare on event_log and its indexes, given back at the end; the
 * caller holds event_log to the end of its transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/visibilitymap.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "log/event.h"
#include "read/cursor.h"

typedef struct EsBranch
{
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* its next event */
	int64		place;			/* of that: its position, or version */
	int64		stop;			/* first position out of the range; 0: the scan
								 * keeps the range */
	int			column;			/* of the log and of the index: what is the place */
	int			entry_column;
} EsBranch;

struct EsCursor
{
	const EsCatalog *cat;
	Snapshot	snapshot;
	EsRange		range;
	ScanDirection direction;
	Relation	log;
	List	   *indexes;		/* open ones */
	int			max_branches;
	int			nbranches;
	EsBranch   *branches;
	binaryheap *heap;			/* of branches by place, once merging */
	EsBranch   *current;		/* gave the last event; next advances it */
	bool		by_entries;		/* only places are wanted */
	Buffer		visibility;		/* page of the visibility map, pinned */
};

/*
 * Begin a cursor; branches are added before the first event is asked for.  "by_entries": only places
 * are wanted, which es_cursor_place tells; the events that es_cursor_next gives may be empty.  Not
 * with es_cursor_add_stream.
 */
EsCursor *
es_cursor_open(const EsCatalog *cat, Snapshot snapshot, EsRange range, int max_branches, bool by_entries)
{
	EsCursor   *cursor = palloc0(sizeof(EsCursor));

	cursor->cat = cat;
	cursor->snapshot = snapshot;
	cursor->range = range;
	cursor->direction = range.backwards ? BackwardScanDirection : ForwardScanDirection;
	cursor->log = table_open(cat->event_log, AccessShareLock);
	cursor->max_branches = max_branches;
	cursor->branches = palloc(sizeof(EsBranch) * Max(max_branches, 1));
	cursor->by_entries = by_entries;
	cursor->visibility = InvalidBuffer;
	return cursor;
}

static Relation
open_index(EsCursor *cursor, Oid oid)
{
	ListCell   *lc;
	Relation	index;

	foreach(lc, cursor->indexes)
	{
		if (RelationGetRelid((Relation) lfirst(lc)) == oid)
			return lfirst(lc);
	}
	index = index_open(oid, AccessShareLock);
	cursor->indexes = lappend(cursor->indexes, index);
	return index;
}

/* The first place at which a range has ended; 0: it does not. */
static int64
first_beyond(const EsCursor *cursor, int64 after, int64 upto)
{
	if (cursor->range.backwards)
		return after;
	return upto == PG_INT64_MAX ? 0 : Max(upto, 0) + 1;
}

/* Has the branch come to the end of its range? */
static bool
is_beyond(const EsCursor *cursor, const EsBranch *branch)
{
	if (branch->stop == 0)
		return false;
	return cursor->range.backwards ? branch->place <= branch->stop : branch->place >= branch->stop;
}

/*
 * Add a range scan of an index.  The range is one of its second column if there
 * is a prefix for the first, else of the first.
 */
static EsBranch *
add_branch(EsCursor *cursor, Oid index, const int64 *prefix, int64 after, int64 upto)
{
	EsBranch   *branch = &cursor->branches[cursor->nbranches++];
	ScanKeyData keys[3];
	int			n = 0;
	int			column = prefix != NULL ? 2 : 1;

	Assert(cursor->nbranches <= cursor->max_branches);
	CHECK_FOR_INTERRUPTS();
	if (prefix != NULL)
		ScanKeyInit(&keys[n++], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(*prefix));
	/* Places are from 1; a key that all entries meet would be compared with each of them. */
	if (after > 0 && (!cursor->by_entries || !cursor->range.backwards))
		ScanKeyInit(&keys[n++], column, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	if (upto < PG_INT64_MAX && (!cursor->by_entries || cursor->range.backwards))
		ScanKeyInit(&keys[n++], column, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));

	branch->stop = cursor->by_entries ? first_beyond(cursor, after, upto) : 0;
	branch->column = ES_LOG_COL_POSITION;
	branch->entry_column = column;
	branch->slot = table_slot_create(cursor->log, NULL);
	branch->scan = es_compat_index_beginscan(cursor->log, open_index(cursor, index), cursor->snapshot, n);
	branch->scan->xs_want_itup = cursor->by_entries;
	index_rescan(branch->scan, keys, n, NULL, 0);
	return branch;
}

/* The whole log. */
void
es_cursor_add_log(EsCursor *cursor)
{
	add_branch(cursor, cursor->cat->event_log_position, NULL,
			   cursor->range.after, cursor->range.upto);
}

/* The events with a type key. */
void
es_cursor_add_type(EsCursor *cursor, int64 type_key)
{
	add_branch(cursor, cursor->cat->event_log_type, &type_key,
			   cursor->range.after, cursor->range.upto);
}

/* The events that an index on a key of metadata has under a hash (metadata.c). */
void
es_cursor_add_metadata(EsCursor *cursor, Oid index, int64 hash)
{
	add_branch(cursor, index, &hash,
			   cursor->range.after, cursor->range.upto);
}

/* The events of a stream; the cursor's range is one of versions. */
void
es_cursor_add_versions(EsCursor *cursor, int64 stream_key)
{
	EsBranch   *branch = add_branch(cursor, cursor->cat->event_log_stream, &stream_key,
									cursor->range.after, cursor->range.upto);

	branch->column = ES_LOG_COL_VERSION;
}

/*
 * Is the first event of a stream from a version on at or below a position?  Then
 * its version is returned, else 0.
 */
static int64
version_at_or_below(IndexScanDesc scan, TupleTableSlot *slot, int64 stream_key, int64 version, int64 position)
{
	ScanKeyData keys[2];

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream_key));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(version));
	index_rescan(scan, keys, 2, NULL, 0);
	if (!index_getnext_slot(scan, ForwardScanDirection, slot) ||
		es_log_number(slot, ES_LOG_COL_POSITION) > position)
		return 0;
	return es_log_number(slot, ES_LOG_COL_VERSION);
}

/*
 * The greatest version of a stream at or below a position; 0 if there is none.
 * In growing steps from the beginning, then by halving.
 */
static int64
version_at(EsCursor *cursor, int64 stream_key, int64 position)
{
	IndexScanDesc scan = es_compat_index_beginscan(cursor->log,
										 open_index(cursor, cursor->cat->event_log_stream),
										 cursor->snapshot, 2);
	TupleTableSlot *slot = table_slot_create(cursor->log, NULL);
	int64		low = 0;		/* is at or below the position */
	int64		high;			/* from here on none is */
	int64		found;

	for (int64 step = 1;; step *= 2)
	{
		CHECK_FOR_INTERRUPTS();
		high = low + step;
		found = version_at_or_below(scan, slot, stream_key, high, position);
		if (found == 0)
			break;
		low = found;
	}
	while (high - low > 1)
	{
		int64		middle = low + (high - low) / 2;

		found = version_at_or_below(scan, slot, stream_key, middle, position);
		if (found != 0)
			low = found;
		else
			high = middle;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return low;
}

/* The events of a stream; the cursor's range is one of positions. */
void
es_cursor_add_stream(EsCursor *cursor, int64 stream_key)
{
	EsRange		range = cursor->range;
	EsBranch   *branch;

	if (range.backwards)
		branch = add_branch(cursor, cursor->cat->event_log_stream, &stream_key,
							0, version_at(cursor, stream_key, range.upto));
	else
		branch = add_branch(cursor, cursor->cat->event_log_stream, &stream_key,
							version_at(cursor, stream_key, range.after), PG_INT64_MAX);
	branch->stop = first_beyond(cursor, range.after, range.upto);
}

/*
 * Go on to the next entry of the index whose event the snapshot sees.  Where the range ends, the
 * entry itself tells: comparing here is cheaper than a key of the scan, and no event beyond the
 * end is fetched.
 */
static bool
advance_entry(EsCursor *cursor, EsBranch *branch)
{
	IndexScanDesc scan = branch->scan;
	ItemPointer tid;
	bool		isnull;

	while ((tid = index_getnext_tid(scan, cursor->direction)) != NULL)
	{
		BlockNumber block = ItemPointerGetBlockNumber(tid);

		branch->place = DatumGetInt64(index_getattr(scan->xs_itup, branch->entry_column,
													scan->xs_itupdesc, &isnull));
		if (is_beyond(cursor, branch))
			return false;
		if (VM_ALL_VISIBLE(cursor->log, block, &cursor->visibility))
			PredicateLockPage(cursor->log, block, cursor->snapshot);
		else if (!index_fetch_heap(scan, branch->slot))
			continue;
		return true;
	}
	return false;
}

static bool
advance_branch(EsCursor *cursor, EsBranch *branch)
{
	if (cursor->by_entries)
		return advance_entry(cursor, branch);
	if (!index_getnext_slot(branch->scan, cursor->direction, branch->slot))
		return false;
	branch->place = es_log_number(branch->slot, branch->column);
	return !is_beyond(cursor, branch);
}

static int
compare_branches(Datum a, Datum b, void *arg)
{
	int64		x = ((EsBranch *) DatumGetPointer(a))->place;
	int64		y = ((EsBranch *) DatumGetPointer(b))->place;
	int			order = x < y ? 1 : x > y ? -1 : 0; /* the first on top */

	return ((EsCursor *) arg)->range.backwards ? -order : order;
}

static void
begin_merge(EsCursor *cursor)
{
	cursor->heap = binaryheap_allocate(Max(cursor->nbranches, 1), compare_branches, cursor);
	for (int i = 0; i < cursor->nbranches; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (advance_branch(cursor, &cursor->branches[i]))
			binaryheap_add_unordered(cursor->heap, PointerGetDatum(&cursor->branches[i]));
	}
	binaryheap_build(cursor->heap);
}

/* The branch whose next event comes first, advanced; NULL: no branch has any more. */
static EsBranch *
next_branch(EsCursor *cursor)
{
	if (cursor->nbranches == 1)
		return advance_branch(cursor, &cursor->branches[0]) ? &cursor->branches[0] : NULL;

	if (cursor->heap == NULL)
		begin_merge(cursor);
	else if (cursor->current != NULL)
	{
		if (advance_branch(cursor, cursor->current))
			binaryheap_replace_first(cursor->heap, PointerGetDatum(cursor->current));
		else
			(void) binaryheap_remove_first(cursor->heap);
	}
	if (binaryheap_empty(cursor->heap))
		return NULL;
	return (EsBranch *) DatumGetPointer(binaryheap_first(cursor->heap));
}

/*
 * The next event, or NULL.  Valid until the next call.
 */
TupleTableSlot *
es_cursor_next(EsCursor *cursor)
{
	CHECK_FOR_INTERRUPTS();
	cursor->current = next_branch(cursor);
	return cursor->current == NULL ? NULL : cursor->current->slot;
}

/* The position, or version, of the event that es_cursor_next has given. */
int64
es_cursor_place(const EsCursor *cursor)
{
	return cursor->current->place;
}

/* The indexes of the branches. */
List *
es_cursor_indexes(const EsCursor *cursor)
{
	List	   *indexes = NIL;
	ListCell   *lc;

	foreach(lc, cursor->indexes)
		indexes = lappend_oid(indexes, RelationGetRelid((Relation) lfirst(lc)));
	return indexes;
}

void
es_cursor_close(EsCursor *cursor)
{
	ListCell   *lc;

	if (BufferIsValid(cursor->visibility))
		ReleaseBuffer(cursor->visibility);
	for (int i = 0; i < cursor->nbranches; i++)
	{
		index_endscan(cursor->branches[i].scan);
		ExecDropSingleTupleTableSlot(cursor->branches[i].slot);
	}
	foreach(lc, cursor->indexes)
		index_close((Relation) lfirst(lc), AccessShareLock);
	list_free(cursor->indexes);
	table_close(cursor->log, AccessShareLock);
	if (cursor->heap != NULL)
		binaryheap_free(cursor->heap);
	pfree(cursor->branches);
	pfree(cursor);
}
