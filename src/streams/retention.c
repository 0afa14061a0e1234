/*
 * retention.c
 *		How much is kept of a stream: es_set_retention.
 *
 * A rule hides at once the events that it does not keep (visible.c); hidden events are
 * removed in the background (scavenge.c).  A rule that is lifted shows again what has not been
 * removed by then.
 *
 * Locks: a row of eventstore.retention.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/timestamp.h"

#include "core/args.h"
#include "core/spi.h"
#include "log/positions.h"
#include "streams/lifecycle.h"

PG_FUNCTION_INFO_V1(es_set_retention);

static EsStatement set_rule = {
	"INSERT INTO eventstore.retention (name, max_count, max_age) VALUES ($1, $2, $3)"
	" ON CONFLICT (name) DO UPDATE SET max_count = $2, max_age = $3",
	{TEXTOID, INT8OID, INTERVALOID}
};

static EsStatement lift_rule = {
	"DELETE FROM eventstore.retention WHERE name = $1", {TEXTOID}
};

static void
check_limits(FunctionCallInfo fcinfo)
{
	Interval	none = {0};

	if (!PG_ARGISNULL(1) && PG_GETARG_INT64(1) < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_count must be at least 1"),
				 errhint("es_delete_stream() takes all events of a stream away.")));
	if (!PG_ARGISNULL(2) &&
		!DatumGetBool(DirectFunctionCall2(interval_gt, PG_GETARG_DATUM(2), IntervalPGetDatum(&none))))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("max_age must be greater than zero")));
	/* readers subtract it from the time: what cannot be is an error here */
	if (!PG_ARGISNULL(2))
		(void) DirectFunctionCall2(timestamptz_mi_interval, TimestampTzGetDatum(GetCurrentTimestamp()),
								   PG_GETARG_DATUM(2));
}

/*
 * es_set_retention(stream_or_category, max_count, max_age)
 */
Datum
es_set_retention(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_lifecycle_begin("es_set_retention()");
	Datum		values[3];
	bool		isnull[3] = {false, PG_ARGISNULL(1), PG_ARGISNULL(2)};
	EsName		name;
	EsSpi		spi;

	es_arg_require(fcinfo, 0, "stream_or_category");
	name = es_name_from_text(PG_GETARG_DATUM(0));
	if (name.len > 0)			/* '' is the category of bare UUIDs */
		es_name_check(name, "stream_or_category");
	check_limits(fcinfo);
	for (int i = 0; i < lengthof(values); i++)
		values[i] = PG_GETARG_DATUM(i);

	es_spi_begin(&spi);
	(void) es_spi_run(isnull[1] && isnull[2] ? &lift_rule : &set_rule, values, isnull);
	es_spi_end(&spi);
	es_database_change_at_end(es_positions_attach(cat));	/* there may be something to remove */
	PG_RETURN_VOID();
}
