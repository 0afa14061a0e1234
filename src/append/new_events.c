/*
 * new_events.c
 *		eventstore.new_events: a foreign table to write events to.
 *
 * It is foreign so that INSERT and COPY hand their rows to us; there is no other server.
 * The script of the extension makes the wrapper, the server and the table: nothing is to
 * be configured, and no other table of the wrapper counts.  What becomes of the rows
 * is in waiting_rows.c.
 *
 * All that is not INSERT or COPY FROM is refused: reading, UPDATE, DELETE and row
 * locks when they are planned, for they begin with a scan; ON CONFLICT here; COPY TO,
 * MERGE and TRUNCATE by the server, which asks the handler for what they need.
 *
 * How many rows are stored at once:
 *
 *	INSERT	up to BATCH_ROWS, which the executor gathers, and hands over before AFTER triggers of
 *			the statement fire.
 *	COPY	what waiting_rows.c lets wait: more than COPY itself would gather, which is
 *			nothing on 15, and later no more than 64 kB.  The last of them are stored in
 *			end_insert.  That comes after AFTER triggers have fired: so not with triggers,
 *			nor for a partition, whose triggers may be those of its parent.
 *	either	one, with RETURNING, which wants what became of the row, with triggers for
 *			rows, which may look at the log, and with a view's check.
 *
 * So a function that is called for a row, in the query or in COPY ... WHERE, need not find
 * the rows before it in the log.
 *
 * COPY makes no plan: what begins a modification is checked when it begins, not only when
 * it is planned.
 *
 * Lock order: new_events, event_log, append_lock, tags, stream.  (A transaction that has
 * appended before takes new_events after event_log: beside DROP EXTENSION, 40P01.)
 * Statements that write to many streams take them in the order of the rows, those of one
 * batch in the order of their names: two of them may be a deadlock, which is detected (40P01).
 *
 * Crash: rows belong to the statement's transaction.
 */
#include "postgres.h"

#include "access/reloptions.h"
#include "catalog/dependency.h"
#include "catalog/pg_class.h"
#include "commands/extension.h"
#include "executor/executor.h"
#include "foreign/fdwapi.h"
#include "nodes/pathnodes.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "append/waiting_rows.h"
#include "core/settings.h"

PG_FUNCTION_INFO_V1(new_events_handler);
PG_FUNCTION_INFO_V1(new_events_validator);

/* Rows that the executor gathers: so many, and fewer if they may be very large. */
#define BATCH_ROWS	200
#define BATCH_BYTES	(128 * INT64CONST(1024) * 1024)

/* What a statement keeps between its rows. */
typedef struct EsNewEvents
{
	EsWaitingRows *rows;
	bool		waits;			/* may rows that come alone wait? */
} EsNewEvents;

/* ---- what is refused ---- */

/* Only the table that the extension made counts: somebody may have made another one. */
static void
require_own_table(Oid relid)
{
	Oid			extension = get_extension_oid("eventstore", true);

	if (!OidIsValid(extension) || getExtensionOfObject(RelationRelationId, relid) != extension)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("foreign table \"%s\" is not one that the extension eventstore made", get_rel_name(relid)),
				 errhint("Write to eventstore.new_events.")));
}

static void
refuse_on_conflict(OnConflictAction action)
{
	if (action != ONCONFLICT_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("INSERT into eventstore.new_events does not support ON CONFLICT"),
				 errhint("Give the row an event_id: one that repeats an event is a duplicate, and stored once.")));
}

static void
refuse_reading(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot read from eventstore.new_events: it is only there to write to"),
			 errhint("Read eventstore.events, or call es_read_stream() or es_read_all().")));
}

static void
refuse_change_of_events(const char *verb)
{
	ereport(ERROR,
			(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
			 errmsg("cannot %s eventstore.new_events: the event log is append-only", verb),
			 errhint("Events are immutable: append an event that corrects.")));
}

/* The planner asks for the size of what is scanned: nothing is. */
static void
refuse_scan(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	require_own_table(relid);
	if (bms_is_member(rel->relid, root->all_result_relids))
		refuse_change_of_events(root->parse->commandType == CMD_DELETE ? "DELETE from" : "UPDATE");
	refuse_reading();
}

/* The server expects these to be there, and comes to none of them. */
static void
refuse_paths(PlannerInfo *root, RelOptInfo *rel, Oid relid)
{
	refuse_reading();
}

static ForeignScan *
refuse_plan(PlannerInfo *root, RelOptInfo *rel, Oid relid, ForeignPath *path, List *tlist,
			List *clauses, Plan *outer)
{
	refuse_reading();
	return NULL;
}

static void
refuse_scan_begin(ForeignScanState *scan, int eflags)
{
	refuse_reading();
}

static TupleTableSlot *
refuse_scan_step(ForeignScanState *scan)
{
	refuse_reading();
	return NULL;
}

static void
scan_end(ForeignScanState *scan)
{
}

static int
updatable_by(Relation rel)
{
	return 1 << CMD_INSERT;
}

/* ---- rows ---- */

static void
begin_rows(ResultRelInfo *relinfo, bool waits)
{
	EsNewEvents *state = palloc(sizeof(EsNewEvents));

	require_own_table(RelationGetRelid(relinfo->ri_RelationDesc));
	state->rows = es_waiting_begin(relinfo->ri_RelationDesc);
	state->waits = waits;
	relinfo->ri_FdwState = state;
}

/* An INSERT is planned. */
static List *
plan_modify(PlannerInfo *root, ModifyTable *plan, Index relation, int nth)
{
	refuse_on_conflict(plan->onConflictAction);
	return NIL;
}

/* An INSERT begins. */
static void
begin_modify(ModifyTableState *state, ResultRelInfo *relinfo, List *fdw_private, int nth, int eflags)
{
	if (!(eflags & EXEC_FLAG_EXPLAIN_ONLY))
		begin_rows(relinfo, false);
}

/* COPY begins, or the first row for a partition that is this table has come. */
static void
begin_insert(ModifyTableState *state, ResultRelInfo *relinfo)
{
	ModifyTable *plan = (ModifyTable *) state->ps.plan; /* NULL: COPY */

	if (plan != NULL)
		refuse_on_conflict(plan->onConflictAction);
	begin_rows(relinfo,
			   plan == NULL && relinfo->ri_TrigDesc == NULL && relinfo->ri_RootResultRelInfo == NULL);
}

static int
batch_size(ResultRelInfo *relinfo)
{
	const TriggerDesc *triggers = relinfo->ri_TrigDesc;
	const EsNewEvents *state = relinfo->ri_FdwState;	/* NULL: EXPLAIN */

	if (state != NULL && state->waits)
		return 1;
	if (relinfo->ri_projectReturning != NULL || relinfo->ri_WithCheckOptions != NIL ||
		(triggers != NULL && (triggers->trig_insert_before_row || triggers->trig_insert_after_row)))
		return 1;
	return (int) Max(1, Min(BATCH_ROWS, BATCH_BYTES / es_guc_max_event_size));
}

static TupleTableSlot *
insert_row(EState *estate, ResultRelInfo *relinfo, TupleTableSlot *row, TupleTableSlot *plan_row)
{
	EsNewEvents *state = relinfo->ri_FdwState;

	if (!state->waits)
		return es_waiting_store_one(state->rows, row);
	es_waiting_keep(state->rows, row);
	return row;
}

static TupleTableSlot **
insert_batch(EState *estate, ResultRelInfo *relinfo, TupleTableSlot **slots, TupleTableSlot **plan_slots, int *n)
{
	EsNewEvents *state = relinfo->ri_FdwState;

	es_waiting_store_all(state->rows, slots, *n);
	return slots;
}

/* An INSERT, or COPY, ends. */
static void
end_insert(EState *estate, ResultRelInfo *relinfo)
{
	EsNewEvents *state = relinfo->ri_FdwState;

	if (state == NULL)
		return;					/* EXPLAIN */
	es_waiting_store_kept(state->rows);
	es_waiting_end(state->rows);
	pfree(state);
	relinfo->ri_FdwState = NULL;
}

/* ---- the wrapper ---- */

/*
 * eventstore.new_events_handler() → fdw_handler
 */
Datum
new_events_handler(PG_FUNCTION_ARGS)
{
	FdwRoutine *routine = makeNode(FdwRoutine);

	routine->GetForeignRelSize = refuse_scan;
	routine->GetForeignPaths = refuse_paths;
	routine->GetForeignPlan = refuse_plan;
	routine->BeginForeignScan = refuse_scan_begin;
	routine->IterateForeignScan = refuse_scan_step;
	routine->ReScanForeignScan = scan_end;
	routine->EndForeignScan = scan_end;

	routine->IsForeignRelUpdatable = updatable_by;
	routine->PlanForeignModify = plan_modify;
	routine->BeginForeignModify = begin_modify;
	routine->BeginForeignInsert = begin_insert;
	routine->GetForeignModifyBatchSize = batch_size;
	routine->ExecForeignInsert = insert_row;
	routine->ExecForeignBatchInsert = insert_batch;
	routine->EndForeignModify = end_insert;
	routine->EndForeignInsert = end_insert;
	PG_RETURN_POINTER(routine);
}

/*
 * eventstore.new_events_validator(options, catalog)
 */
Datum
new_events_validator(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0) && untransformRelOptions(PG_GETARG_DATUM(0)) != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FDW_INVALID_OPTION_NAME),
				 errmsg("the foreign-data wrapper eventstore has no options")));
	PG_RETURN_VOID();
}
