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
 * Invariants
 * 1. The snapshot is registered by the caller for as long as the cursor is open.
 * 2. No event is in two branches.
 *
 * Locks: AccessShare on event_log and its indexes, given back at the end; the
 * caller holds event_log to the end of its transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "log/event.h"
#include "read/cursor.h"

typedef struct EsBranch
{
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* its next event */
	int64		position;		/* of that */
	int64		stop;			/* first position out of the range; 0: the scan
								 * keeps the range */
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
	binaryheap *heap;			/* of branches by position, once merging */
	EsBranch   *current;		/* gave the last event; next advances it */
};

/*
 * Begin a cursor; branches are added before the first event is asked for.
 */
EsCursor *
es_cursor_open(const EsCatalog *cat, Snapshot snapshot, EsRange range, int max_branches)
{
	EsCursor   *cursor = palloc0(sizeof(EsCursor));

	cursor->cat = cat;
	cursor->snapshot = snapshot;
	cursor->range = range;
	cursor->direction = range.backwards ? BackwardScanDirection : ForwardScanDirection;
	cursor->log = table_open(cat->event_log, AccessShareLock);
	cursor->max_branches = max_branches;
	cursor->branches = palloc(sizeof(EsBranch) * Max(max_branches, 1));
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
	ScanKeyInit(&keys[n++], column, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(after));
	ScanKeyInit(&keys[n++], column, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(upto));

	branch->stop = 0;
	branch->slot = table_slot_create(cursor->log, NULL);
	branch->scan = es_compat_index_beginscan(cursor->log, open_index(cursor, index), cursor->snapshot, n);
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
	add_branch(cursor, cursor->cat->event_log_stream, &stream_key,
			   cursor->range.after, cursor->range.upto);
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
	{
		branch = add_branch(cursor, cursor->cat->event_log_stream, &stream_key,
							0, version_at(cursor, stream_key, range.upto));
		branch->stop = range.after;
	}
	else
	{
		branch = add_branch(cursor, cursor->cat->event_log_stream, &stream_key,
							version_at(cursor, stream_key, range.after), PG_INT64_MAX);
		branch->stop = range.upto == PG_INT64_MAX ? 0 : range.upto + 1;
	}
}

static bool
advance_branch(EsCursor *cursor, EsBranch *branch)
{
	if (!index_getnext_slot(branch->scan, cursor->direction, branch->slot))
		return false;
	branch->position = es_log_number(branch->slot, ES_LOG_COL_POSITION);
	if (branch->stop == 0)
		return true;
	return cursor->range.backwards ? branch->position > branch->stop : branch->position < branch->stop;
}

static int
compare_branches(Datum a, Datum b, void *arg)
{
	int64		x = ((EsBranch *) DatumGetPointer(a))->position;
	int64		y = ((EsBranch *) DatumGetPointer(b))->position;
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

/*
 * The next event, or NULL.  Valid until the next call.
 */
TupleTableSlot *
es_cursor_next(EsCursor *cursor)
{
	CHECK_FOR_INTERRUPTS();
	if (cursor->nbranches == 1)
		return advance_branch(cursor, &cursor->branches[0]) ? cursor->branches[0].slot : NULL;

	if (cursor->heap == NULL)
		begin_merge(cursor);
	if (cursor->current != NULL)
	{
		if (advance_branch(cursor, cursor->current))
			binaryheap_replace_first(cursor->heap, PointerGetDatum(cursor->current));
		else
			(void) binaryheap_remove_first(cursor->heap);
		cursor->current = NULL;
	}
	if (binaryheap_empty(cursor->heap))
		return NULL;
	cursor->current = (EsBranch *) DatumGetPointer(binaryheap_first(cursor->heap));
	return cursor->current->slot;
}

void
es_cursor_close(EsCursor *cursor)
{
	ListCell   *lc;

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
