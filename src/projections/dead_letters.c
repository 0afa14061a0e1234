/*
 * dead_letters.c
 *		Events that a projection was let pass without applying them: how they are kept.
 *
 * With on_error => 'skip' that is the event that failed; with 'park' also every
 * later event of its stream, for as long as one of the stream waits.  retry.c applies
 * them again.
 *
 * Invariant: letters are added and removed under the lock of the projection's progress,
 * so that no event of a parked stream overtakes another.
 *
 * Locks: those of catchup.c.
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "core/spi.h"
#include "projections/dead_letters.h"
#include "projections/events.h"

/* The streams with a letter that parks, whatever on_error says now; NULL: none. */
HTAB *
es_dead_letters_parked_streams(const EsProjection *projection)
{
	static EsStatement read = {
		"SELECT DISTINCT stream FROM eventstore.dead_letter WHERE projection_id = $1 AND parks",
		{INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(projection->id)};
	HASHCTL		ctl = {.keysize = ES_NAME_MAX_BYTES + 1, .entrysize = ES_NAME_MAX_BYTES + 1};
	HTAB	   *streams = NULL;
	EsSpi		spi;
	uint64		n;

	ctl.hcxt = CurrentMemoryContext;
	es_spi_begin(&spi);
	n = es_spi_run(&read, values, NULL);
	if (n > 0)
		streams = hash_create("eventstore parked streams", n, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (uint64 i = 1; i <= n; i++)
	{
		char		key[ES_NAME_MAX_BYTES + 1] = {0};

		strlcpy(key, es_spi_text(i, 1), sizeof(key));
		(void) hash_search(streams, key, HASH_ENTER, NULL);
	}
	es_spi_end(&spi);
	return streams;
}

/* Store a letter, instead of the one of that event if there is one. */
void
es_dead_letters_store(int id, const EsDeadLetter *letter)
{
	static EsStatement add = {
		"INSERT INTO eventstore.dead_letter"
		" (projection_id, position, stream, parks, attempts, error, sqlstate, detail, hint, context, failed_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, clock_timestamp())"
		" ON CONFLICT (projection_id, position) DO UPDATE SET parks = excluded.parks,"
		" attempts = excluded.attempts, error = excluded.error, sqlstate = excluded.sqlstate,"
		" detail = excluded.detail, hint = excluded.hint, context = excluded.context,"
		" skipped_by = NULL, failed_at = excluded.failed_at",
		{INT4OID, INT8OID, TEXTOID, BOOLOID, INT4OID, TEXTOID, TEXTOID, TEXTOID, TEXTOID, TEXTOID}
	};
	Datum		values[5 + ES_ERROR_PARTS] = {
		Int32GetDatum(id), Int64GetDatum(letter->position), CStringGetTextDatum(letter->stream),
		BoolGetDatum(letter->parks), Int32GetDatum(letter->attempts)
	};
	bool		isnull[5 + ES_ERROR_PARTS] = {false};
	EsSpi		spi;

	es_error_put(letter->error, values + 5, isnull + 5);
	es_spi_begin(&spi);
	(void) es_spi_run(&add, values, isnull);
	es_spi_end(&spi);
}

/* Events that wait behind a letter of their stream. */
void
es_dead_letters_park(const EsProjection *projection, List *parked)
{
	ListCell   *lc;

	foreach(lc, parked)
	{
		const EsParked *event = lfirst(lc);

		CHECK_FOR_INTERRUPTS();
		es_dead_letters_store(projection->id, &(EsDeadLetter) {
			.position = event->position, .stream = event->stream, .parks = true
		});
	}
}

static char *
stream_of(int64 position)
{
	static EsStatement read = {
		"SELECT s.name FROM eventstore.event_log l JOIN eventstore.stream s USING (stream_key)"
		" WHERE l.position = $1",
		{INT8OID}
	};
	Datum		values[1] = {Int64GetDatum(position)};
	MemoryContext caller = CurrentMemoryContext;
	char	   *stream = NULL;
	EsSpi		spi;

	es_spi_begin(&spi);
	if (es_spi_run(&read, values, NULL) > 0)
		stream = MemoryContextStrdup(caller, es_spi_text(1, 1));
	es_spi_end(&spi);
	return stream;
}

/* An event that the projection is let pass, after that many attempts. */
void
es_dead_letters_add(const EsProjection *projection, int64 position, int attempts,
					const EsError *error)
{
	EsDeadLetter letter = {
		.position = position, .stream = stream_of(position),
		.parks = projection->on_error == ES_ON_ERROR_PARK,
		.attempts = attempts, .error = error
	};

	if (letter.stream != NULL)	/* else the event has gone: nothing to apply later */
		es_dead_letters_store(projection->id, &letter);
}

/*
 * The event that the projection failed at is skipped by the current user: with the error
 * that its progress tells of.
 */
void
es_dead_letters_skip(const EsProjection *projection, int64 position)
{
	static EsStatement skip = {
		"INSERT INTO eventstore.dead_letter"
		" (projection_id, position, stream, parks, attempts, error, sqlstate, detail, hint, context,"
		"  skipped_by, failed_at)"
		" SELECT g.projection_id, l.position, s.name, $3, g.failures, g.error, g.sqlstate, g.detail, g.hint,"
		"  g.context, $4, g.failed_at"
		" FROM eventstore.projection_progress g"
		" JOIN eventstore.event_log l ON l.position = $2"
		" JOIN eventstore.stream s USING (stream_key)"
		" WHERE g.projection_id = $1"
		" ON CONFLICT (projection_id, position) DO UPDATE SET parks = excluded.parks,"
		" attempts = excluded.attempts, error = excluded.error, sqlstate = excluded.sqlstate,"
		" detail = excluded.detail, hint = excluded.hint, context = excluded.context,"
		" skipped_by = excluded.skipped_by, failed_at = excluded.failed_at",
		{INT4OID, INT8OID, BOOLOID, TEXTOID}
	};
	Datum		values[4] = {
		Int32GetDatum(projection->id), Int64GetDatum(position),
		BoolGetDatum(projection->on_error == ES_ON_ERROR_PARK),
		CStringGetTextDatum(GetUserNameFromId(GetUserId(), false))
	};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&skip, values, NULL);
	es_spi_end(&spi);
}

/* The projection is rebuilt: it will meet the events again. */
void
es_dead_letters_remove(int id)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.dead_letter WHERE projection_id = $1", {INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(id)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}
