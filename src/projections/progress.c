/*
 * progress.c
 *		The stored progress of a projection: how far it has come.
 *
 * Invariants
 * 1. Whoever applies events to a projection from the log, or changes what it is,
 *    holds the lock on its row of projection_progress until commit: never two at
 *    once.  The definition is looked up again under the lock.
 * 2. The checkpoint commits with the effects of the events up to it.
 *
 * Lock order: event_log, projection_progress, projection.  One row of
 * projection_progress at a time.  An append takes none of these locks (append/inline.c).
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "utils/builtins.h"

#include "core/spi.h"
#include "projections/progress.h"

void
es_progress_create(int id, int64 checkpoint)
{
	static EsStatement create = {
		"INSERT INTO eventstore.projection_progress (projection_id, checkpoint) VALUES ($1, $2)",
		{INT4OID, INT8OID}
	};
	Datum		values[2] = {Int32GetDatum(id), Int64GetDatum(checkpoint)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&create, values, NULL);
	es_spi_end(&spi);
}

static bool
read_progress_row(EsStatement *statement, bool lock, int id, EsProgress *progress)
{
	Datum		values[1] = {Int32GetDatum(id)};
	bool		isnull;
	EsSpi		spi;
	bool		found;

	es_spi_begin(&spi);
	found = (lock ? es_spi_run(statement, values, NULL) : es_spi_look(statement, values)) > 0;
	if (found)
	{
		progress->checkpoint = DatumGetInt64(es_spi_value(1, 1, &isnull));
		progress->failures = DatumGetInt32(es_spi_value(1, 2, &isnull));
		progress->failed_position = DatumGetInt64(es_spi_value(1, 3, &isnull));
	}
	es_spi_end(&spi);
	return found;
}

/*
 * Lock the row to the end of the transaction.  False: the projection is gone.  In REPEATABLE
 * READ and above the projection may also be younger than the snapshot: that is 40001.
 */
bool
es_progress_lock(int id, EsProgress *progress)
{
	static EsStatement lock = {
		"SELECT checkpoint, failures, coalesce(failed_position, 0) FROM eventstore.projection_progress"
		" WHERE projection_id = $1 FOR NO KEY UPDATE",
		{INT4OID}
	};

	if (read_progress_row(&lock, true, id, progress))
		return true;
	if (IsolationUsesXactSnapshot() && es_progress_read(id, progress))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent creation of the projection"),
				 errhint("The transaction might succeed if retried.")));
	return false;
}

/* The same, without waiting.  False also if somebody else holds the lock. */
bool
es_progress_try_lock(int id, EsProgress *progress)
{
	static EsStatement lock = {
		"SELECT checkpoint, failures, coalesce(failed_position, 0) FROM eventstore.projection_progress"
		" WHERE projection_id = $1 FOR NO KEY UPDATE SKIP LOCKED",
		{INT4OID}
	};

	return read_progress_row(&lock, true, id, progress);
}

/* The row as of this moment. */
bool
es_progress_read(int id, EsProgress *progress)
{
	static EsStatement read = {
		"SELECT checkpoint, failures, coalesce(failed_position, 0) FROM eventstore.projection_progress"
		" WHERE projection_id = $1",
		{INT4OID}
	};

	return read_progress_row(&read, false, id, progress);
}

/* All events up to the checkpoint are applied, or let pass. */
void
es_progress_move(int id, int64 checkpoint)
{
	static EsStatement move = {
		"UPDATE eventstore.projection_progress"
		" SET checkpoint = $2, failures = 0, failed_position = NULL, error = NULL, sqlstate = NULL,"
		"     detail = NULL, hint = NULL, context = NULL, failed_at = NULL"
		" WHERE projection_id = $1",
		{INT4OID, INT8OID}
	};
	Datum		values[2] = {Int32GetDatum(id), Int64GetDatum(checkpoint)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&move, values, NULL);
	es_spi_end(&spi);
}

/*
 * An attempt has failed, at an event (0: no single one).  True: it is the first failure, or
 * it is at another event or has another SQLSTATE than the last.
 */
bool
es_progress_fail(int id, int failures, int64 position, const EsError *error)
{
	static EsStatement fail = {
		"UPDATE eventstore.projection_progress g"
		" SET failures = $2, failed_position = $3, error = $4, sqlstate = $5, detail = $6, hint = $7,"
		"     context = $8, failed_at = clock_timestamp()"
		" FROM eventstore.projection_progress before"
		" WHERE g.projection_id = $1 AND before.projection_id = $1"
		" RETURNING before.failures = 0 OR before.failed_position IS DISTINCT FROM $3"
		"  OR before.sqlstate IS DISTINCT FROM $5",
		{INT4OID, INT4OID, INT8OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[3 + ES_ERROR_PARTS] = {
		Int32GetDatum(id), Int32GetDatum(failures), Int64GetDatum(position)
	};
	bool		isnull[3 + ES_ERROR_PARTS] = {false, false, position == 0};
	bool		differs;
	bool		null;
	EsSpi		spi;

	es_error_put(error, values + 3, isnull + 3);
	es_spi_begin(&spi);
	differs = es_spi_run(&fail, values, isnull) > 0 && DatumGetBool(es_spi_value(1, 1, &null));
	es_spi_end(&spi);
	return differs;
}

/* Note what keeps the projection from becoming inline; that is no failure. */
void
es_progress_note_obstacle(int id, const char *message, int sqlstate)
{
	static EsStatement note = {
		"UPDATE eventstore.projection_progress SET error = $2, sqlstate = $3, detail = NULL, hint = NULL,"
		" context = NULL, failed_at = clock_timestamp()"
		" WHERE projection_id = $1",
		{INT4OID, TEXTOID, TEXTOID}
	};
	Datum		values[3] = {
		Int32GetDatum(id), CStringGetTextDatum(message), CStringGetTextDatum(unpack_sql_state(sqlstate))
	};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&note, values, NULL);
	es_spi_end(&spi);
}

/* Change the state in the projection's own row. */
void
es_progress_set_state(int id, EsState state, bool live, int64 rebuild_up_to)
{
	static EsStatement set_state = {
		"UPDATE eventstore.projection"
		" SET since = CASE WHEN state = $2 AND live = $3 THEN since ELSE clock_timestamp() END,"
		"     state = $2, live = $3, rebuild_up_to = $4"
		" WHERE projection_id = $1",
		{INT4OID, TEXTOID, BOOLOID, INT8OID}
	};
	Datum		values[4] = {
		Int32GetDatum(id), CStringGetTextDatum(es_state_name(state)), BoolGetDatum(live),
		Int64GetDatum(rebuild_up_to)
	};
	bool		isnull[4] = {false, false, false, rebuild_up_to == 0};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&set_state, values, isnull);
	es_spi_end(&spi);
}

/* Remove the projection's rows from all tables. */
void
es_progress_remove(int id)
{
	static EsStatement remove[] = {
		{"DELETE FROM eventstore.projection WHERE projection_id = $1", {INT4OID}},
		{"DELETE FROM eventstore.projection_progress WHERE projection_id = $1", {INT4OID}},
		{"DELETE FROM eventstore.projection_state WHERE projection_id = $1", {INT4OID}},
		{"DELETE FROM eventstore.dead_letter WHERE projection_id = $1", {INT4OID}}
	};
	Datum		values[1] = {Int32GetDatum(id)};
	EsSpi		spi;

	es_spi_begin(&spi);
	for (int i = 0; i < lengthof(remove); i++)
		(void) es_spi_run(&remove[i], values, NULL);
	es_spi_end(&spi);
}
