/*
 * index.c
 *		Whether the store's indexes have an entry for each row.
 *
 * For each table one pass over its rows, and one over each of its indexes, counting what
 * the snapshot sees.  An index that has lost entries, or has entries of other rows, usually
 * has another number of them.  (Whether each entry is in its place, the extension amcheck
 * checks.)
 *
 * Invariant: only rows that the snapshot sees count, in the table and by the index, so
 * that concurrent changes and the remains of removed rows do not.
 *
 * Locks: AccessShare on table and index.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/transam.h"
#include "access/visibilitymap.h"
#include "catalog/index.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "store/index.h"

#define MAX_INDEXES		5

typedef struct CheckedIndex
{
	Relation	rel;
	ExprState  *predicate;		/* NULL: all rows have an entry */
	int64		rows;			/* that must have an entry */
} CheckedIndex;

/* Count the rows of the table that each of its indexes must have. */
static void
count_rows(Relation rel, Snapshot snapshot, CheckedIndex *indexes, int n)
{
	EState	   *estate = CreateExecutorState();
	ExprContext *context = GetPerTupleExprContext(estate);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);

	for (int i = 0; i < n; i++)
		indexes[i].predicate = ExecPrepareQual(RelationGetIndexPredicate(indexes[i].rel), estate);
	context->ecxt_scantuple = slot;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		for (int i = 0; i < n; i++)
			indexes[i].rows += ExecQual(indexes[i].predicate, context);
		ResetPerTupleExprContext(estate);
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	FreeExecutorState(estate);
}

/*
 * Count the rows that the index leads to.  As in an index-only scan the table is asked
 * where the visibility map does not answer.
 */
static int64
count_entries(Relation rel, Relation index, Snapshot snapshot)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = es_compat_index_beginscan(rel, index, snapshot, 0);
	Buffer		visibility = InvalidBuffer;
	ItemPointer tid;
	int64		entries = 0;

	scan->xs_want_itup = true;
	index_rescan(scan, NULL, 0, NULL, 0);
	while ((tid = index_getnext_tid(scan, ForwardScanDirection)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (VM_ALL_VISIBLE(rel, ItemPointerGetBlockNumber(tid), &visibility) ||
			index_fetch_heap(scan, slot))
			entries++;
		ExecClearTuple(slot);
	}
	if (BufferIsValid(visibility))
		ReleaseBuffer(visibility);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	return entries;
}

/* May this snapshot use the index?  Not one that was made since (optimizer/util/plancat.c). */
static bool
is_usable(Relation index)
{
	return !index->rd_index->indcheckxmin ||
		TransactionIdPrecedes(HeapTupleHeaderGetXmin(index->rd_indextuple->t_data), TransactionXmin);
}

/* The indexes stand next to each other in the catalog's cache, which the refresh renews. */
static void
check_table(Oid table, const Oid *oids, int n, Snapshot snapshot, EsIndexProblem problem, void *arg)
{
	Relation	rel = table_open(table, AccessShareLock);
	CheckedIndex indexes[MAX_INDEXES] = {0};

	Assert(n <= MAX_INDEXES);
	es_catalog_refresh();
	for (int i = 0; i < n; i++)
		indexes[i].rel = index_open(oids[i], AccessShareLock);
	count_rows(rel, snapshot, indexes, n);
	for (int i = 0; i < n; i++)
	{
		Relation	index = indexes[i].rel;
		int64		entries;

		if (!index->rd_index->indisvalid)
			problem(arg, RelationGetRelationName(index), "it is not valid");
		else if (is_usable(index) && (entries = count_entries(rel, index, snapshot)) != indexes[i].rows)
			problem(arg, RelationGetRelationName(index),
					psprintf("it leads to %lld rows, the table has %lld", (long long) entries, (long long) indexes[i].rows));
		index_close(index, NoLock);
	}
	table_close(rel, NoLock);
}

void
es_index_check(const EsCatalog *cat, Snapshot snapshot, EsIndexProblem problem, void *arg)
{
	check_table(cat->event_log, &cat->event_log_position, 5, snapshot, problem, arg);
	check_table(cat->event_tag, &cat->event_tag_tag, 1, snapshot, problem, arg);
	check_table(cat->stream, &cat->stream_name, 2, snapshot, problem, arg);
	check_table(cat->event_type, &cat->event_type_key, 4, snapshot, problem, arg);
}
