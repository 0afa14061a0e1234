/*
 * control.c
 *		Statements about a projection: pause, resume, rebuild, run.
 *
 * They are for the owner of the projection (owner.c), and members of that role.  Each takes
 * the lock of the projection's progress, for which it asks a worker that runs the
 * projection to stop its batch; nothing is lost, the batch is applied anew.
 *
 * A live projection is taken from the appends first: they are locked out (switch.c), so
 * that no open append has applied to it, or will apply, what the statement does not see.
 *
 * Lock order: event_log, projection_progress, projection.  event_log is locked
 * ShareRowExclusive where a live projection is concerned; then what the reset locks.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/inval.h"

#include "core/args.h"
#include "core/errors.h"
#include "log/change.h"
#include "log/head.h"
#include "projections/call.h"
#include "projections/catchup.h"
#include "projections/control.h"
#include "projections/dead_letters.h"
#include "projections/owner.h"
#include "projections/state.h"
#include "projections/switch.h"
#include "streams/gone.h"

PG_FUNCTION_INFO_V1(es_drop_projection);
PG_FUNCTION_INFO_V1(es_pause_projection);
PG_FUNCTION_INFO_V1(es_resume_projection);
PG_FUNCTION_INFO_V1(es_rebuild_projection);
PG_FUNCTION_INFO_V1(es_run_projection);

/* The projection that the first argument names, if the caller may change it. */
const EsProjection *
es_control_find(const EsCatalog *cat, FunctionCallInfo fcinfo)
{
	const EsProjection *projection = es_definition_require(cat, es_arg_name(fcinfo, 0, "name"));

	if (!es_carrier_is_own(&projection->carrier))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of projection \"%s\"", projection->name)));
	return projection;
}

static void
refuse_dropped(const char *name)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("projection \"%s\" does not exist", name),
			 errdetail("It has been dropped meanwhile.")));
}

/*
 * Lock the projection's progress; the projection as it is then.
 */
const EsProjection *
es_control_lock(const EsCatalog *cat, const EsProjection *projection, EsProgress *progress)
{
	int			id = projection->id;
	char	   *name = pstrdup(projection->name);

	es_figures_interrupt(cat, id);
	projection = es_progress_lock(id, progress) ? es_definition_under_lock(cat, id) : NULL;
	if (projection == NULL)
		refuse_dropped(name);
	return projection;
}

/*
 * The same, with appends locked out if they apply it.
 */
const EsProjection *
es_control_lock_out(const EsCatalog *cat, const EsProjection *projection, EsProgress *progress)
{
	if (projection->live || projection->was_live)
		es_switch_lock_out(cat);
	projection = es_control_lock(cat, projection, progress);
	if (projection->live)
		es_switch_lock_out(cat);	/* it has become live while we waited for its lock */
	return projection;
}

/* Waiting for a stopped projection, or running it, is an error. */
void
es_control_refuse_stopped(const EsProjection *projection)
{
	es_definition_require_owner(projection);
	if (projection->state == ES_STATE_STOPPED)
		ereport(ERROR,
				(errcode(ES_PROJECTION_STOPPED),
				 errmsg("projection \"%s\" is stopped by an error", projection->name),
				 errhint("See eventstore.projections; es_resume_projection() lets it go on.")));
}

/* Appends do not apply it from here on: its checkpoint is the last position handed out. */
static const EsProjection *
cease_to_be_live(const EsCatalog *cat, const EsProjection *projection, EsProgress *progress)
{
	int			id = projection->id;

	progress->checkpoint = es_head_handed_out(cat);
	es_progress_move(id, progress->checkpoint);
	es_progress_set_state(id, projection->state, false, 0);
	CommandCounterIncrement();
	return es_definition_by_id(cat, id);
}

/*
 * The same for a statement after which appends must not apply it: it is live no more, and
 * its checkpoint is what they have applied.
 */
const EsProjection *
es_control_take_from_appends(const EsCatalog *cat, const EsProjection *projection, EsProgress *progress)
{
	projection = es_control_lock_out(cat, projection, progress);
	return projection->live || projection->was_live ? cease_to_be_live(cat, projection, progress) : projection;
}

/*
 * An append begins.  A projection that was inline when it was dumped, and does not run here,
 * has applied all that was restored: its checkpoint is set accordingly before events are
 * added, for a later dump.  Assumes event_log locked by es_seal_lock_log, and no other lock of
 * the append, for here it may wait for the first append after a restore.
 */
void
es_control_settle(const EsCatalog *cat)
{
	const EsProjections *all = es_definitions(cat);
	List	   *ids = NIL;
	ListCell   *lc;

	for (int i = 0; all->nwas_live > 0 && i < all->n; i++)
	{
		if (all->list[i].was_live)
			ids = lappend_int(ids, all->list[i].id);
	}
	foreach(lc, ids)
	{
		const EsProjection *projection;
		EsProgress	progress;

		if (es_progress_lock(lfirst_int(lc), &progress) &&
			(projection = es_definition_under_lock(cat, lfirst_int(lc))) != NULL && projection->was_live)
			(void) cease_to_be_live(cat, projection, &progress);
	}
}

/*
 * Remove a projection, but for its carrier, which is returned: it may be among the objects
 * that a statement is about to drop.
 */
Oid
es_control_remove(const EsCatalog *cat, const EsProjection *projection)
{
	EsProgress	progress;
	Oid			carrier;

	projection = es_control_take_from_appends(cat, projection, &progress);
	carrier = projection->carrier.function;
	es_progress_remove(projection->id);
	CommandCounterIncrement();
	return carrier;
}

/*
 * Drop a projection.
 */
void
es_control_drop(const EsCatalog *cat, const EsProjection *projection)
{
	Oid			carrier = es_control_remove(cat, projection);

	if (OidIsValid(carrier))
		es_carrier_drop(carrier);
}

/*
 * es_drop_projection(name)
 */
Datum
es_drop_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_drop_projection()");

	es_control_drop(cat, es_control_find(cat, fcinfo));
	PG_RETURN_VOID();
}

/*
 * es_pause_projection(name)
 */
Datum
es_pause_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_pause_projection()");
	const EsProjection *projection = es_control_find(cat, fcinfo);
	EsProgress	progress;

	projection = es_control_take_from_appends(cat, projection, &progress);
	es_progress_set_state(projection->id, ES_STATE_PAUSED, false, projection->rebuild_up_to);
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/*
 * es_resume_projection(name, skip_failed)
 */
Datum
es_resume_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_resume_projection()");
	const EsProjection *projection = es_control_find(cat, fcinfo);
	EsProgress	progress;
	int			id = projection->id;
	bool		stood;

	es_arg_require(fcinfo, 1, "skip_failed");
	projection = projection->was_live ? es_control_take_from_appends(cat, projection, &progress) :
		es_control_lock(cat, projection, &progress);
	stood = !projection->runs;
	if (stood)
		projection = es_owner_confirm(cat, projection);
	if (PG_GETARG_BOOL(1))
	{
		if (progress.failed_position == 0)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("projection \"%s\" has no failed event to skip", projection->name)));
		es_dead_letters_skip(projection, progress.failed_position);
		es_progress_move(id, progress.failed_position);
	}
	else if (progress.failures > 0)
		es_progress_move(id, progress.checkpoint);	/* attempts are counted anew */
	es_figures_hurry(cat, id);
	if (stood)
	{
		bool		is_inline = projection->is_inline;

		es_progress_set_state(id, ES_STATE_RUNNING, projection->live, projection->rebuild_up_to);
		CommandCounterIncrement();
		if (is_inline)
			(void) es_switch_try(cat, id);
	}
	PG_RETURN_VOID();
}

/* Warn the owner if events were taken away that the rebuilt read model will lack. */
static void
warn_of_gone(const EsProjection *projection)
{
	int64		gone = es_gone_of_categories(projection->filter.categories, projection->filter.ncategories);

	if (gone > 0)
		ereport(WARNING,
				(errmsg("projection \"%s\" is rebuilt without %lld events that have been taken away",
						projection->name, (long long) gone),
				 errdetail("They were truncated, deleted or not retained in %s; of which types they were is not known.",
						   projection->filter.categories != NULL ? "streams of its categories" : "streams of any category")));
}

/*
 * es_rebuild_projection(name)
 */
Datum
es_rebuild_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_rebuild_projection()");
	const EsProjection *projection = es_control_find(cat, fcinfo);
	EsProgress	progress;
	int64		start_after;
	int			id = projection->id;

	es_control_require_read_committed("es_rebuild_projection()");
	if (projection->reset == NULL && projection->form != ES_FORM_REDUCER)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" cannot be rebuilt: it has no reset", projection->name),
				 errhint("Say what empties its read model: es_alter_projection(name, reset => 'TRUNCATE ...'); '' if nothing needs to be emptied.")));
	projection = es_control_take_from_appends(cat, projection, &progress);
	warn_of_gone(projection);
	start_after = projection->start_after;
	es_states_remove(projection);
	es_dead_letters_remove(id);
	es_progress_move(id, start_after);
	es_progress_set_state(id, ES_STATE_RUNNING, false, es_head_handed_out(cat));
	CommandCounterIncrement();
	es_call_reset(es_definition_by_id(cat, id));
	CommandCounterIncrement();
	PG_RETURN_VOID();
}

/* projection is NULL if it has been dropped meanwhile. */
static void
refuse_to_run(const EsProjection *projection, const char *name)
{
	if (projection == NULL)
		refuse_dropped(name);
	es_control_refuse_stopped(projection);
	if (projection->state == ES_STATE_PAUSED)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("projection \"%s\" is paused", name)));
}

/*
 * es_run_projection(name, up_to) → bigint
 */
Datum
es_run_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_run_projection()");
	const EsProjection *projection = es_control_find(cat, fcinfo);
	EsCatchup	catchup = {.cat = cat, .id = projection->id};
	char	   *name = pstrdup(projection->name);
	bool		is_inline = projection->is_inline;
	int64		applied = 0;

	catchup.upto = es_arg_place(fcinfo, 1, "up_to", PG_INT64_MAX);
	if (catchup.upto != PG_INT64_MAX)
		es_head_refuse_ahead(cat, catchup.upto);
	catchup.limit = PG_INT32_MAX;
	refuse_to_run(projection, name);
	do
	{
		CHECK_FOR_INTERRUPTS();
		es_catchup_batch(&catchup);
		applied += catchup.events;
		CommandCounterIncrement();
	} while (catchup.runs && !catchup.complete);
	if (!catchup.runs)
	{
		/* it may have changed while we waited for its lock */
		AcceptInvalidationMessages();
		refuse_to_run(es_definition_by_id(cat, catchup.id), name);
	}
	if (catchup.runs && is_inline && catchup.upto == PG_INT64_MAX)
		(void) es_switch_try(cat, catchup.id);
	PG_RETURN_INT64(applied);
}
