/*
 * tag_rows.c
 *		Storing where the events of a tag are: rows of eventstore.event_tag.
 *
 * A row for each different tag of an event (log/tags.c).  Without SQL underneath, as the
 * events themselves (writer.c): rows by multi-insert, index entries through the executor.
 *
 * Lock order: event_log, stream, event_tag.
 * Crash: rows belong to the appending transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/rel.h"

#include "append/tag_rows.h"
#include "compat/compat.h"
#include "core/target.h"
#include "log/tags.h"

/* Most rows in one multi-insert. */
#define MAX_ROWS	1000

typedef struct TagRows
{
	Relation	rel;
	EsTarget	target;
	TupleTableSlot **slots;
	int			nslots;			/* made so far */
	int			nused;			/* filled, waiting to be stored */
} TagRows;

static void
store_waiting_rows(TagRows *rows)
{
	MemoryContext old;

	if (rows->nused == 0)
		return;
	/* table_multi_insert leaks into the current context */
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(rows->target.estate));
	table_multi_insert(rows->rel, rows->slots, rows->nused, GetCurrentCommandId(true), 0, NULL);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < rows->nused; i++)
	{
		(void) es_compat_index_inserted(rows->target.relinfo, rows->slots[i],
										rows->target.estate, NULL, NIL);
		ExecClearTuple(rows->slots[i]);
	}
	ResetPerTupleExprContext(rows->target.estate);
	rows->nused = 0;
}

static void
add_row(TagRows *rows, int64 tag, int64 position)
{
	TupleTableSlot *slot;

	if (rows->nused == rows->nslots)
		rows->slots[rows->nslots++] = MakeSingleTupleTableSlot(RelationGetDescr(rows->rel),
															   table_slot_callbacks(rows->rel));
	slot = ExecClearTuple(rows->slots[rows->nused++]);
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	slot->tts_values[ES_TAG_COL_TAG - 1] = Int64GetDatum(tag);
	slot->tts_isnull[ES_TAG_COL_TAG - 1] = false;
	slot->tts_values[ES_TAG_COL_POSITION - 1] = Int64GetDatum(position);
	slot->tts_isnull[ES_TAG_COL_POSITION - 1] = false;
	ExecStoreVirtualTuple(slot);
	if (rows->nused == MAX_ROWS)
		store_waiting_rows(rows);
}

/*
 * Store where the tags of the call's events are.
 */
void
es_tag_rows_store(const EsAppend *call, const EsCatalog *cat)
{
	TagRows		rows = {0};

	if (!es_append_bears_tags(call))
		return;
	rows.rel = table_open(cat->event_tag, RowExclusiveLock);
	rows.target = es_target_open(rows.rel);
	rows.slots = palloc(sizeof(TupleTableSlot *) * MAX_ROWS);
	ExecOpenIndices(rows.target.relinfo, false);
	for (int i = 0; i < call->nevents; i++)
	{
		const EsEvent *event = &call->events[i];

		CHECK_FOR_INTERRUPTS();
		for (int j = 0; j < event->ntags; j++)
			add_row(&rows, event->tag_hashes[j], event->position);
	}
	store_waiting_rows(&rows);
	for (int i = 0; i < rows.nslots; i++)
		ExecDropSingleTupleTableSlot(rows.slots[i]);
	ExecCloseIndices(rows.target.relinfo);
	es_target_close(&rows.target);
	table_close(rows.rel, NoLock);
	pfree(rows.slots);
}
