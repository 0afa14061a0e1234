/*
 * shown.c
 *		What the view eventstore.projections shows besides the tables.
 *
 * Locks: AccessShare on event_log; the figures' lock, for a moment.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "funcapi.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "projections/figures.h"

PG_FUNCTION_INFO_V1(projection_figures);

/*
 * eventstore.projection_figures() → SETOF record, of this store
 */
Datum
projection_figures(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	int			n;
	EsFigures  *list = es_figures_list(es_catalog_lock(AccessShareLock), &n);

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < n; i++)
	{
		const EsFigures *figures = &list[i];
		Datum		values[11] = {
			Int32GetDatum(figures->id), Int32GetDatum((int32) figures->pid),
			TimestampTzGetDatum(figures->batch_started), Int64GetDatum(figures->batch_events),
			Int64GetDatum(figures->batch_done), Float8GetDatum(figures->batch_ms),
			Float8GetDatum(figures->rate), Int32GetDatum(figures->deaths),
			TimestampTzGetDatum(figures->not_before),
			Int64GetDatum(figures->empty_from), Int64GetDatum(figures->empty_upto)
		};
		bool		isnull[11] = {false};

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
