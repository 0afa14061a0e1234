/*
 * status.c
 *		What eventstore.status and eventstore.blockers show.
 *
 * Both answer from shared memory and change nothing.  A server that does not
 * preload the library gets an answer too: that is when a DBA asks.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/xlog.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "core/release.h"
#include "log/head.h"
#include "log/positions.h"

PG_FUNCTION_INFO_V1(log_status);
PG_FUNCTION_INFO_V1(in_flight);

/* What the launcher thinks of this database. */
static const char *
background_of(EsDatabase *db)
{
	TimestampTz tried_at = (TimestampTz) pg_atomic_read_u64(&db->tried_at);

	if (db->holds > 0)
		return "held by a statement";
	if (pg_atomic_read_u32(&db->scheduler) == 0 && !es_launcher_runs())
		return "no launcher";
	if (tried_at > GetCurrentTimestamp())
		return psprintf("failed, retry at %s", timestamptz_to_str(tried_at));
	if (pg_atomic_read_u32(&db->shortage) != ES_SHORTAGE_NONE)
		return "waiting for a process";
	if (pg_atomic_read_u32(&db->scheduler) != 0)
		return "awake";
	return pg_atomic_read_u64(&db->wanted_since) != 0 ? "starting" : "at rest";
}

/*
 * eventstore.log_status() → record
 */
Datum
log_status(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	Datum		values[10] = {0};
	bool		isnull[10] = {true, true, true, true, true, true, false, true, true, true};
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	int64		format = es_catalog_format(cat);

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");

	values[0] = BoolGetDatum(es_registry_loaded());
	isnull[0] = false;
	if (es_registry_loaded())
	{
		values[1] = Int64GetDatum(es_head_glance(cat));
		isnull[1] = false;
		if (!RecoveryInProgress())
		{
			EsDatabase *db = es_positions_attach(cat);
			pid_t		scheduler = db->scheduler_pid;
			EsShortage	shortage = (EsShortage) pg_atomic_read_u32(&db->shortage);
			TimestampTz waits_since = (TimestampTz) pg_atomic_read_u64(&db->waits_since);

			values[2] = Int64GetDatum(es_head_handed_out(cat));
			isnull[2] = false;
			values[3] = BoolGetDatum(pg_atomic_read_u32(&db->sealed) != 0);
			isnull[3] = false;
			values[4] = Int32GetDatum(scheduler);
			isnull[4] = scheduler == 0;
			isnull[5] = shortage == ES_SHORTAGE_NONE;
			if (!isnull[5])
				values[5] = CStringGetTextDatum(shortage == ES_SHORTAGE_OF_WORKERS ?
												"eventstore.max_workers" : "max_worker_processes");
			values[8] = CStringGetTextDatum(background_of(db));
			isnull[8] = false;
			values[9] = TimestampTzGetDatum(waits_since);
			isnull[9] = waits_since == 0 || shortage == ES_SHORTAGE_NONE;
		}
	}
	values[6] = CStringGetTextDatum(es_release_name());
	values[7] = Int32GetDatum((int32) format);
	isnull[7] = format == 0;
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, isnull)));
}

/*
 * eventstore.in_flight() → SETOF (pid, above)
 */
Datum
in_flight(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	EsInFlight *list;
	int			n;

	InitMaterializedSRF(fcinfo, 0);
	if (!es_registry_loaded())
		PG_RETURN_NULL();
	list = es_registry_list(&n);
	for (int i = 0; i < n; i++)
	{
		Datum		values[2] = {Int32GetDatum(list[i].pid), Int64GetDatum(list[i].bound)};
		bool		isnull[2] = {false, false};

		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
	}
	PG_RETURN_NULL();
}
