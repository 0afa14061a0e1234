/*
 * writer.c
 *		Stores events into event_log as an INSERT would, without SQL underneath.
 *
 * Tuples go through the table access method (many at once: multi-insert), index
 * entries through the executor, so that indexes, constraints and triggers that
 * users have added to event_log work as with INSERT.  The order of things is that
 * of COPY FROM (commands/copyfrom.c): statement triggers, BEFORE ROW triggers,
 * constraints, tuple, index entries, AFTER triggers.
 *
 * The store's own guard, which refuses direct INSERTs, is taken out of the copy of
 * the trigger list that the executor works with here.  There is no flag that says
 * "we are in an append", which a trigger function could abuse.
 *
 * Invariants
 * 1. With BEFORE ROW triggers rows are stored one at a time, for a trigger may
 *    look at the table.
 * 2. The indexes on event id and on stream and version raise no 23505.  About an
 *    id, idempotency.c decides.  A version can only be taken by a BEFORE trigger
 *    that itself appended to the stream, for the stream is locked.
 *
 * Locks: RowExclusive on the indexes of event_log, in the order of their OIDs.
 * Crash: rows belong to the caller's transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/index.h"
#include "catalog/pg_trigger.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

#include "append/condition.h"
#include "append/idempotency.h"
#include "append/tag_rows.h"
#include "append/writer.h"
#include "compat/compat.h"
#include "core/args.h"
#include "core/target.h"
#include "log/event.h"
#include "log/guard.h"
#include "log/tags.h"

/* Most tuples in one multi-insert, and about how many bytes. */
#define MAX_TUPLES	1000
#define MAX_BYTES	(256 * 1024)

typedef struct EsWriter
{
	EsAppend   *call;
	Relation	log;
	Oid			id_index;
	EsTarget	target;
	EState	   *estate;			/* of the target */
	ResultRelInfo *relinfo;
	List	   *arbiters;		/* the indexes that raise no 23505 */
	ExprState **defaults;		/* of users' own columns; NULL: there are none */
	TransitionCaptureState *transition;
	CommandId	cid;
	int			nslots;			/* made so far */
	int			nused;			/* filled, waiting to be stored */
	Size		bytes;
	TupleTableSlot **slots;
	const EsEvent **events;
} EsWriter;

/*
 * Take the store's guard out of the executor's copy of the trigger list.
 */
static TriggerDesc *
without_guard(TriggerDesc *triggers, Oid guard)
{
	int			kept = 0;

	if (triggers == NULL)
		return NULL;
	for (int i = 0; i < triggers->numtriggers; i++)
	{
		if (triggers->triggers[i].tgfoid != guard)
			triggers->triggers[kept++] = triggers->triggers[i];
	}
	if (kept == 0)
		return NULL;

	/* What is left decides what is to be fired on INSERT. */
	triggers->numtriggers = kept;
	triggers->trig_insert_before_row = false;
	for (int i = 0; i < kept; i++)
	{
		int16		type = triggers->triggers[i].tgtype;

		if (TRIGGER_FOR_INSERT(type) && TRIGGER_FOR_ROW(type) && TRIGGER_FOR_BEFORE(type))
			triggers->trig_insert_before_row = true;
	}
	return triggers;
}

/* Does storing events fire triggers of users? */
bool
es_writer_fires(Relation log)
{
	Oid			guard = es_guard_function(log);
	const TriggerDesc *triggers = log->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		if (TRIGGER_FOR_INSERT(triggers->triggers[i].tgtype) && triggers->triggers[i].tgfoid != guard)
			return true;
	}
	return false;
}

/* Does it fire any BEFORE it, for each row? */
bool
es_writer_fires_before_row(Relation log)
{
	TriggerDesc *copy = CopyTriggerDesc(log->trigdesc);

	copy = without_guard(copy, es_guard_function(log));
	return copy != NULL && copy->trig_insert_before_row;
}

/*
 * Open the indexes as ExecOpenIndices does, but for two things that a small append
 * feels.  Locks are kept to the end of the transaction, which then need not take
 * them again for its next append.  And the partial indexes of the store, on correlation
 * ids and on stored ids, are left out where no event of the call has such: a predicate
 * costs more to prepare than the insertion into another index.
 */
static void
open_indexes(ResultRelInfo *relinfo, const List *left_out)
{
	List	   *oids = RelationGetIndexList(relinfo->ri_RelationDesc);
	int			n = list_length(oids);
	ListCell   *lc;

	relinfo->ri_IndexRelationDescs = palloc(sizeof(Relation) * Max(n, 1));
	relinfo->ri_IndexRelationInfo = palloc(sizeof(IndexInfo *) * Max(n, 1));
	relinfo->ri_NumIndices = 0;
	foreach(lc, oids)
	{
		if (!list_member_oid(left_out, lfirst_oid(lc)))
		{
			Relation	index = index_open(lfirst_oid(lc), RowExclusiveLock);

			relinfo->ri_IndexRelationDescs[relinfo->ri_NumIndices] = index;
			relinfo->ri_IndexRelationInfo[relinfo->ri_NumIndices++] = BuildIndexInfo(index);
		}
	}
	list_free(oids);
}

static void
close_indexes(ResultRelInfo *relinfo)
{
	for (int i = 0; i < relinfo->ri_NumIndices; i++)
	{
		es_compat_index_inserts_end(relinfo->ri_IndexRelationDescs[i], relinfo->ri_IndexRelationInfo[i]);
		index_close(relinfo->ri_IndexRelationDescs[i], NoLock);
	}
}

static bool
has_metadata(const EsAppend *call)
{
	for (int i = 0; i < call->nevents; i++)
	{
		if (call->events[i].metadata != 0)
			return true;
	}
	return false;
}

static bool
stores_ids(const EsAppend *call)
{
	for (int i = 0; i < call->nevents; i++)
	{
		if (!call->events[i].has_derived_id)
			return true;
	}
	return false;
}

/*
 * Columns that users have added to event_log: their defaults, as INSERT would
 * compute them.
 */
static ExprState **
prepare_defaults(EState *estate, Relation log)
{
	TupleDesc	desc = RelationGetDescr(log);
	ExprState **defaults;

	if (desc->natts <= ES_LOG_COLS)
		return NULL;
	defaults = palloc0(sizeof(ExprState *) * desc->natts);
	for (int i = ES_LOG_COLS; i < desc->natts; i++)
	{
		Form_pg_attribute column = TupleDescAttr(desc, i);
		Node	   *expression;

		if (column->attisdropped || column->attgenerated)
			continue;
		expression = build_column_default(log, i + 1);
		if (expression != NULL)
			defaults[i] = ExecPrepareExpr((Expr *) expression, estate);
	}
	return defaults;
}

static void
fill_defaults(EsWriter *writer, TupleTableSlot *slot)
{
	ExprContext *context = GetPerTupleExprContext(writer->estate);
	MemoryContext old = MemoryContextSwitchTo(context->ecxt_per_tuple_memory);

	for (int i = ES_LOG_COLS; i < slot->tts_tupleDescriptor->natts; i++)
	{
		if (writer->defaults[i] != NULL)
			slot->tts_values[i] = ExecEvalExpr(writer->defaults[i], context,
											   &slot->tts_isnull[i]);
	}
	MemoryContextSwitchTo(old);
}

static bool
fires_before_row(const EsWriter *writer)
{
	TriggerDesc *triggers = writer->relinfo->ri_TrigDesc;

	return triggers != NULL && triggers->trig_insert_before_row;
}

static EsWriter *
open_writer(EsAppend *call, const EsCatalog *cat, Relation log)
{
	EsWriter   *writer = palloc(sizeof(EsWriter));
	List	   *left_out = NIL;
	Oid			guard;

	writer->call = call;
	writer->log = log;
	writer->id_index = cat->event_log_id;
	writer->slots = palloc(sizeof(TupleTableSlot *) * Min(call->nevents, MAX_TUPLES));
	writer->events = palloc(sizeof(EsEvent *) * Min(call->nevents, MAX_TUPLES));
	writer->nslots = 0;
	writer->nused = 0;
	writer->bytes = 0;
	writer->transition = NULL;

	writer->target = es_target_open(log);
	writer->estate = writer->target.estate;
	writer->relinfo = writer->target.relinfo;
	writer->arbiters = list_make2_oid(cat->event_log_id, cat->event_log_stream);

	guard = es_guard_function(log);
	writer->relinfo->ri_TrigDesc = without_guard(writer->relinfo->ri_TrigDesc, guard);
	/* a BEFORE trigger could add metadata */
	if (!has_metadata(call) && !fires_before_row(writer))
		left_out = lappend_oid(left_out, cat->event_log_correlation);
	if (!stores_ids(call))
		left_out = lappend_oid(left_out, cat->event_log_id);
	open_indexes(writer->relinfo, left_out);
	list_free(left_out);
	if (writer->relinfo->ri_TrigDesc != NULL)
	{
		AfterTriggerBeginQuery();
		writer->transition = MakeTransitionCaptureState(writer->relinfo->ri_TrigDesc,
														RelationGetRelid(log), CMD_INSERT);
		ExecBSInsertTriggers(writer->estate, writer->relinfo);
	}
	writer->defaults = prepare_defaults(writer->estate, log);
	writer->cid = GetCurrentCommandId(true);
	writer->estate->es_output_cid = writer->cid;
	return writer;
}

static void
close_writer(EsWriter *writer)
{
	if (writer->relinfo->ri_TrigDesc != NULL)
	{
		ExecASInsertTriggers(writer->estate, writer->relinfo, writer->transition);
		AfterTriggerEndQuery(writer->estate);
	}
	for (int i = 0; i < writer->nslots; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	close_indexes(writer->relinfo);
	es_target_close(&writer->target);
	pfree(writer->slots);
	pfree(writer->events);
	pfree(writer);
}

static TupleTableSlot *
next_slot(EsWriter *writer)
{
	if (writer->nused == writer->nslots)
		writer->slots[writer->nslots++] =
			MakeSingleTupleTableSlot(RelationGetDescr(writer->log),
									 table_slot_callbacks(writer->log));
	return ExecClearTuple(writer->slots[writer->nused]);
}

static void
set_column(TupleTableSlot *slot, int column, Datum value)
{
	slot->tts_values[column - 1] = value;
	slot->tts_isnull[column - 1] = false;
}

static void
fill_slot(EsWriter *writer, TupleTableSlot *slot, const EsAppend *call, const EsEvent *event)
{
	memset(slot->tts_isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	set_column(slot, ES_LOG_COL_POSITION, Int64GetDatum(event->position));
	set_column(slot, ES_LOG_COL_STREAM_KEY, Int64GetDatum(call->streams[event->stream].head.key));
	set_column(slot, ES_LOG_COL_VERSION, Int64GetDatum(event->version));
	set_column(slot, ES_LOG_COL_CREATED_AT, TimestampTzGetDatum(event->created_at));
	set_column(slot, ES_LOG_COL_TYPE_KEY, Int64GetDatum(event->type_key));
	if (!event->has_derived_id)
		set_column(slot, ES_LOG_COL_EVENT_ID, UUIDPGetDatum(&event->id));
	set_column(slot, ES_LOG_COL_STREAM, PointerGetDatum(call->streams[event->stream].name));
	set_column(slot, ES_LOG_COL_DATA, event->data);
	if (event->metadata != 0)
		set_column(slot, ES_LOG_COL_METADATA, event->metadata);
	if (event->tags != 0)
		set_column(slot, ES_LOG_COL_TAGS, event->tags);
	if (event->payload != 0)
		set_column(slot, ES_LOG_COL_PAYLOAD, event->payload);
	if (writer->defaults != NULL)
		fill_defaults(writer, slot);
	ExecStoreVirtualTuple(slot);
}

static bool
id_is_kept(TupleTableSlot *slot, const EsEvent *event)
{
	bool		isnull;
	Datum		id = slot_getattr(slot, ES_LOG_COL_EVENT_ID, &isnull);

	return isnull == event->has_derived_id &&
		(isnull || memcmp(DatumGetUUIDP(id), &event->id, sizeof(pg_uuid_t)) == 0);
}

static bool
stream_is_kept(TupleTableSlot *slot, EsName stream)
{
	return !slot_attisnull(slot, ES_LOG_COL_STREAM) && es_name_equal(es_log_stream(slot), stream);
}

static bool
column_is(TupleTableSlot *slot, int column, int64 value)
{
	bool		isnull;
	Datum		datum = slot_getattr(slot, column, &isnull);

	return !isnull && DatumGetInt64(datum) == value;
}

/*
 * Fire the users' BEFORE ROW triggers.  They may change data, metadata, tags and
 * payload, and refuse the event with an error; they may not make it another event.
 */
static void
fire_before_row(EsWriter *writer, TupleTableSlot *slot, const EsAppend *call,
				const EsEvent *event)
{
	bool		kept = ExecBRInsertTriggers(writer->estate, writer->relinfo, slot);

	if (!kept)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a trigger on eventstore.event_log has dropped an event"),
				 errhint("A trigger can refuse an event by raising an error.")));
	if (!column_is(slot, ES_LOG_COL_POSITION, event->position) ||
		!column_is(slot, ES_LOG_COL_STREAM_KEY, call->streams[event->stream].head.key) ||
		!column_is(slot, ES_LOG_COL_VERSION, event->version) ||
		!column_is(slot, ES_LOG_COL_TYPE_KEY, event->type_key) ||
		!column_is(slot, ES_LOG_COL_CREATED_AT, event->created_at) ||
		!id_is_kept(slot, event) ||
		!stream_is_kept(slot, call->streams[event->stream].head.name))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("a trigger on eventstore.event_log has changed a key column"),
				 errhint("A trigger may change data, metadata, tags and payload only.")));
}

static Datum
changed_value(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? 0 : datumCopy(value, false, -1);
}

/* The tags that triggers have left the event with: checked, and locked as any. */
static void
take_tags(const EsCatalog *cat, EsEvent *event)
{
	Datum	   *values;
	bool	   *nulls;
	int			n;

	event->ntags = 0;
	if (event->tags == 0)
		return;
	es_array_read(DatumGetArrayTypeP(event->tags), TEXTOID, "tags", &values, &nulls, &n);
	event->tag_hashes = es_tags_check(values, nulls, n, &event->ntags);
	es_condition_lock_tags(cat, event);
}

/* What triggers have made of the event is what inline projections are given. */
static void
take_changes(TupleTableSlot *slot, const EsCatalog *cat, EsEvent *event)
{
	event->data = changed_value(slot, ES_LOG_COL_DATA);
	event->metadata = changed_value(slot, ES_LOG_COL_METADATA);
	event->tags = changed_value(slot, ES_LOG_COL_TAGS);
	event->payload = changed_value(slot, ES_LOG_COL_PAYLOAD);
	take_tags(cat, event);
}

/* Index entries and AFTER ROW triggers of a stored tuple. */
static void
finish_tuple(EsWriter *writer, TupleTableSlot *slot, const EsEvent *event)
{
	bool		conflict = false;
	List	   *recheck;

	recheck = es_compat_index_inserted(writer->relinfo, slot, writer->estate, &conflict,
									   writer->arbiters);
	for (int i = 0; recheck != NIL && i < writer->relinfo->ri_NumIndices; i++)
	{
		Relation	index = writer->relinfo->ri_IndexRelationDescs[i];

		if (!list_member_oid(recheck, RelationGetRelid(index)) ||
			!list_member_oid(writer->arbiters, RelationGetRelid(index)))
			continue;
		if (RelationGetRelid(index) != writer->id_index)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("a BEFORE trigger on eventstore.event_log has appended to the stream of its event"),
					 errhint("Append to the same stream from an AFTER trigger.")));
		es_idempotency_resolve(writer->log, index, event, &slot->tts_tid);	/* (2) */
		recheck = list_delete_oid(recheck, writer->id_index);
	}
	if (writer->relinfo->ri_TrigDesc != NULL)
		ExecARInsertTriggers(writer->estate, writer->relinfo, slot, recheck,
							 writer->transition);
	list_free(recheck);
}

static void
store_waiting(EsWriter *writer)
{
	MemoryContext old;

	if (writer->nused == 0)
		return;
	CHECK_FOR_INTERRUPTS();

	/* table_multi_insert leaks into the current context */
	old = MemoryContextSwitchTo(GetPerTupleMemoryContext(writer->estate));
	if (writer->nused == 1)
		table_tuple_insert(writer->log, writer->slots[0], writer->cid, 0, NULL);
	else
		table_multi_insert(writer->log, writer->slots, writer->nused, writer->cid, 0, NULL);
	MemoryContextSwitchTo(old);

	for (int i = 0; i < writer->nused; i++)
	{
		writer->call->current = writer->events[i];
		finish_tuple(writer, writer->slots[i], writer->events[i]);
	}
	for (int i = 0; i < writer->nused; i++)
		ExecClearTuple(writer->slots[i]);
	ResetPerTupleExprContext(writer->estate);
	writer->nused = 0;
	writer->bytes = 0;
}

/*
 * Store the call's events, whose versions, positions and keys are decided.
 */
void
es_writer_store(EsAppend *call, const EsCatalog *cat, Relation log)
{
	EsWriter   *writer = open_writer(call, cat, log);
	bool		one_at_a_time = fires_before_row(writer);	/* (1) */

	for (int i = 0; i < call->nevents; i++)
	{
		EsEvent    *event = &call->events[i];
		TupleTableSlot *slot = next_slot(writer);

		call->current = event;
		fill_slot(writer, slot, call, event);
		if (one_at_a_time)
		{
			fire_before_row(writer, slot, call, event);
			take_changes(slot, cat, event);
		}
		if (log->rd_att->constr != NULL)
		{
			if (log->rd_att->constr->has_generated_stored)
				ExecComputeStoredGenerated(writer->relinfo, writer->estate, slot, CMD_INSERT);
			ExecConstraints(writer->relinfo, slot, writer->estate);
		}

		writer->events[writer->nused++] = event;
		if (event->data != 0)
			writer->bytes += VARSIZE_ANY(DatumGetPointer(event->data));
		if (event->metadata != 0)
			writer->bytes += VARSIZE_ANY(DatumGetPointer(event->metadata));
		if (event->tags != 0)
			writer->bytes += VARSIZE_ANY(DatumGetPointer(event->tags));
		if (event->payload != 0)
			writer->bytes += VARSIZE_ANY(DatumGetPointer(event->payload));
		if (one_at_a_time || writer->nused == MAX_TUPLES || writer->bytes >= MAX_BYTES)
			store_waiting(writer);
	}
	store_waiting(writer);
	call->current = NULL;
	es_tag_rows_store(call, cat);	/* before AFTER triggers look for them */
	close_writer(writer);
}
