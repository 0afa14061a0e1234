/*
 * wait.c
 *		Waiting until a projection has applied the events up to a position.
 *
 * Sleeps on a condition variable that workers broadcast after each commit, and looks
 * once a second in case nobody does.  On a standby it looks at the replayed tables.
 *
 * Invariant: what decides is the checkpoint as committed, read anew at each look;
 * so what is read after the wait, with a snapshot taken then, is applied.
 *
 * Locks: AccessShare on event_log.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/inval.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/wait_event.h"
#include "log/head.h"
#include "log/positions.h"
#include "projections/control.h"
#include "projections/figures.h"

PG_FUNCTION_INFO_V1(es_wait_for_projection);

#define LOOK_INTERVAL_MS			1000
#define STANDBY_LOOK_INTERVAL_MS	100

/* Has the projection applied the position?  An error if it will not. */
static bool
has_reached(const EsCatalog *cat, EsName name, int64 position)
{
	const EsProjection *projection;
	EsProgress	progress;

	AcceptInvalidationMessages();
	projection = es_definition_require(cat, name);
	if (projection->live)
		return es_head_glance(cat) >= position;
	es_control_refuse_stopped(projection);
	return es_progress_read(projection->id, &progress) &&
		es_figures_reached(cat, projection, progress.checkpoint) >= position;
}

static void
sleep_for_projection(EsDatabase *db, TimestampTz deadline)
{
	long		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (db != NULL)
		ConditionVariableTimedSleep(&db->progress_moved, Min(left, LOOK_INTERVAL_MS),
									es_wait_event(ES_WAIT_PROJECTION));
	else
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(left, STANDBY_LOOK_INTERVAL_MS), es_wait_event(ES_WAIT_PROJECTION));
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

static bool
wait_until(const EsCatalog *cat, EsName name, int64 position, TimestampTz deadline)
{
	EsDatabase *db = RecoveryInProgress() ? NULL : es_positions_attach(cat);
	bool		reached;

	if (db != NULL)
		ConditionVariablePrepareToSleep(&db->progress_moved);
	while (!(reached = has_reached(cat, name, position)) && GetCurrentTimestamp() < deadline)
		sleep_for_projection(db, deadline);
	if (db != NULL)
		ConditionVariableCancelSleep();
	return reached;
}

/*
 * es_wait_for_projection(name, up_to, timeout) → boolean
 */
Datum
es_wait_for_projection(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	EsName		name = es_arg_name(fcinfo, 0, "name");
	int64		position;
	TimestampTz deadline;

	es_registry_require();
	es_arg_require(fcinfo, 2, "timeout");
	position = es_arg_place(fcinfo, 1, "up_to", -1);
	deadline = es_arg_deadline(fcinfo, 2, "timeout", 0);
	(void) es_definition_require(cat, name);
	if (position >= 0)
		es_head_refuse_ahead(cat, position);
	else						/* a standby does not know what was handed out, only what it has */
		position = RecoveryInProgress() ? es_head_glance(cat) : es_head_handed_out(cat);
	es_head_refuse_own(position);
	PG_RETURN_BOOL(wait_until(cat, name, position, deadline));
}
