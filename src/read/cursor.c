/*
 * cursor.c
 *		Events in the order of positions (or versions), from one index range or
 *		merged from several.
 *
 * Each branch is a range scan of one index, already in order.  One branch is
 * read straight; several are merged with a heap on the position of their next
 * event.  A read by category or type has a branch a type key, so that it costs in
 * proportion to what it returns, whatever else is in the log.
 *
 * Invariant: the snapshot is registered by the caller for as long as the cursor
 * is open.
 *
 * Locks: AccessShare on event_log and the index, released with the cursor's
 * relation; the caller holds event_log to the end of its transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "lib/binaryheap.h"
#include "miscadmin.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"

#include "log/append.h"
#include "read/cursor.h"

typedef struct EsBranch
{
	IndexScanDesc scan;
	TupleTableSlot *slot;		/* its next event */
	int64		position;		/* of that */
} EsBranch;

struct EsCursor
{
	Relation	log;
	Relation	index;
	ScanDirection direction;
	int			nbranches;
	EsBranch   *branches;
	binaryheap *heap;			/* of branches by position; NULL: one branch */
	EsBranch   *current;		/* gave the last event; advanced by next */
};

static int
compare_branches(Datum a, Datum b, void *arg)
{
	int64		x = ((EsBranch *) DatumGetPointer(a))->position;
	int64		y = ((EsBranch *) DatumGetPointer(b))->position;
	int			order = x < y ? 1 : x > y ? -1 : 0; /* the first on top */

	return ((EsCursor *) arg)->direction == ForwardScanDirection ? order : -order;
}

static EsCursor *
open_cursor(const EsCatalog *cat, Oid index, EsRange range, int nbranches)
{
	EsCursor   *cursor = palloc0(sizeof(EsCursor));

	cursor->log = table_open(cat->event_log, AccessShareLock);
	cursor->index = index_open(index, AccessShareLock);
	cursor->direction = range.backwards ? BackwardScanDirection : ForwardScanDirection;
	cursor->nbranches = nbranches;
	cursor->branches = palloc0(sizeof(EsBranch) * Max(nbranches, 1));
	return cursor;
}

/*
 * A branch over the range of one index column; the column before it, if any, is
 * equal to "prefix".
 */
static void
open_branch(EsCursor *cursor, EsBranch *branch, Snapshot snapshot, EsRange range,
			const int64 *prefix)
{
	ScanKeyData keys[3];
	int			n = 0;
	int			column = prefix != NULL ? 2 : 1;

	if (prefix != NULL)
		ScanKeyInit(&keys[n++], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(*prefix));
	ScanKeyInit(&keys[n++], column, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(range.after));
	ScanKeyInit(&keys[n++], column, BTLessEqualStrategyNumber, F_INT8LE, Int64GetDatum(range.upto));

	branch->slot = table_slot_create(cursor->log, NULL);
	branch->scan = index_beginscan(cursor->log, cursor->index, snapshot, n, 0);
	index_rescan(branch->scan, keys, n, NULL, 0);
}

static bool
advance(EsCursor *cursor, EsBranch *branch)
{
	bool		isnull;

	if (!index_getnext_slot(branch->scan, cursor->direction, branch->slot))
		return false;
	branch->position = DatumGetInt64(slot_getattr(branch->slot, ES_LOG_COL_POSITION, &isnull));
	return true;
}

/* The whole log. */
EsCursor *
es_cursor_open_log(const EsCatalog *cat, Snapshot snapshot, EsRange positions)
{
	EsCursor   *cursor = open_cursor(cat, cat->event_log_position, positions, 1);

	open_branch(cursor, &cursor->branches[0], snapshot, positions, NULL);
	return cursor;
}

/* The events with one of these type keys, each of them given once. */
EsCursor *
es_cursor_open_types(const EsCatalog *cat, Snapshot snapshot, EsRange positions,
					 const int64 *type_keys, int n)
{
	EsCursor   *cursor = open_cursor(cat, cat->event_log_type, positions, n);

	if (n != 1)
		cursor->heap = binaryheap_allocate(Max(n, 1), compare_branches, cursor);
	for (int i = 0; i < n; i++)
	{
		EsBranch   *branch = &cursor->branches[i];

		CHECK_FOR_INTERRUPTS();
		open_branch(cursor, branch, snapshot, positions, &type_keys[i]);
		if (n != 1 && advance(cursor, branch))
			binaryheap_add_unordered(cursor->heap, PointerGetDatum(branch));
	}
	if (n != 1)
		binaryheap_build(cursor->heap);
	return cursor;
}

/* The events of a stream; the range is one of versions. */
EsCursor *
es_cursor_open_stream(const EsCatalog *cat, Snapshot snapshot, EsRange versions,
					  int64 stream_key)
{
	EsCursor   *cursor = open_cursor(cat, cat->event_log_stream, versions, 1);

	open_branch(cursor, &cursor->branches[0], snapshot, versions, &stream_key);
	return cursor;
}

/* The events whose correlation id has this hash. */
EsCursor *
es_cursor_open_correlation(const EsCatalog *cat, Snapshot snapshot, EsRange positions,
						   int64 correlation_hash)
{
	EsCursor   *cursor = open_cursor(cat, cat->event_log_correlation, positions, 1);

	open_branch(cursor, &cursor->branches[0], snapshot, positions, &correlation_hash);
	return cursor;
}

/*
 * The next event, or NULL.  Valid until the next call.
 */
TupleTableSlot *
es_cursor_next(EsCursor *cursor)
{
	CHECK_FOR_INTERRUPTS();
	if (cursor->heap == NULL)
	{
		EsBranch   *only = &cursor->branches[0];

		return index_getnext_slot(only->scan, cursor->direction, only->slot) ? only->slot : NULL;
	}

	if (cursor->current != NULL)
	{
		if (advance(cursor, cursor->current))
			binaryheap_replace_first(cursor->heap, PointerGetDatum(cursor->current));
		else
			binaryheap_remove_first(cursor->heap);
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
	for (int i = 0; i < cursor->nbranches; i++)
	{
		EsBranch   *branch = &cursor->branches[i];

		if (branch->scan == NULL)
			continue;
		index_endscan(branch->scan);
		ExecDropSingleTupleTableSlot(branch->slot);
	}
	index_close(cursor->index, AccessShareLock);
	table_close(cursor->log, AccessShareLock);
	if (cursor->heap != NULL)
		binaryheap_free(cursor->heap);
	pfree(cursor->branches);
	pfree(cursor);
}
