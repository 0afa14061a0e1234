/*
 * shown.c
 *		What the view eventstore.projections shows besides the tables.
 *
 * The lag is counted in events that the projection would take, with a snapshot of this
 * moment: also those that are committed but beyond a head that is held back.  They are
 * late for whoever reads the read model, whatever the reason.
 *
 * Locks: AccessShare on event_log; the figures' lock, for a moment.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "log/head.h"
#include "projections/figures.h"
#include "projections/progress.h"
#include "read/count.h"

PG_FUNCTION_INFO_V1(projection_figures);
PG_FUNCTION_INFO_V1(projection_lag);

/*
 * eventstore.projection_figures() → SETOF record, of this store
 */
Datum
projection_figures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	int			n;
	EsFigures  *list = es_figures_list(cat, &n);
	int64		head = n > 0 && !RecoveryInProgress() ? es_head_glance(cat) : 0;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		const EsFigures *figures = &list[i];
		Datum		values[12] = {
			Int32GetDatum(figures->id), Int32GetDatum((int32) figures->pid),
			TimestampTzGetDatum(figures->batch_started), Int64GetDatum(figures->batch_events),
			Int64GetDatum(figures->batch_done), Float8GetDatum(figures->batch_ms),
			Float8GetDatum(figures->rate), Int32GetDatum(figures->deaths),
			TimestampTzGetDatum(figures->not_before),
			Int64GetDatum(figures->empty_from), Int64GetDatum(figures->empty_upto),
			BoolGetDatum(es_figures_is_due(figures, head))
		};
		bool		isnull[12] = {false};

		isnull[1] = figures->pid == 0;
		isnull[2] = isnull[3] = isnull[4] = figures->batch_started == 0;
		isnull[5] = figures->batch_ms == 0;
		isnull[6] = figures->rate == 0;
		isnull[8] = figures->not_before == 0;
		isnull[9] = isnull[10] = figures->empty_version != figures->version;
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	return (Datum) 0;
}

/*
 * eventstore.projection_lag(projection_id) → record
 */
Datum
projection_lag(PG_FUNCTION_ARGS)
{
	static const EsCountLimits limits = {.events = ES_LAG_EVENTS, .looked_at = ES_LAG_LOOKED_AT};
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	const EsProjection *projection = NULL;
	EsRange		range = {0, PG_INT64_MAX, false};
	EsCounted	counted = {.complete = true};
	EsProgress	progress;
	TupleDesc	desc;
	Datum		values[4] = {0};
	bool		isnull[4] = {true, true, true, true};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	if (es_registry_loaded() && !PG_ARGISNULL(0))
		projection = es_definition_by_id(cat, PG_GETARG_INT32(0));
	if (projection != NULL && es_progress_read(projection->id, &progress))
	{
		if (!projection->live)
		{
			Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

			range.after = es_figures_reached(cat, projection, progress.checkpoint);
			counted = es_count_events(cat, &projection->filter, range, snapshot, limits, NULL, NULL);
			UnregisterSnapshot(snapshot);
		}
		values[0] = Int64GetDatum(counted.events);
		values[1] = BoolGetDatum(!counted.complete);
		values[2] = Int64GetDatum(counted.first);
		values[3] = TimestampTzGetDatum(counted.first_at);
		isnull[0] = isnull[1] = false;
		isnull[2] = isnull[3] = counted.events == 0;
	}
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}
