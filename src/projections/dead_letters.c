/*
 * dead_letters.c
 *		Dead letters: how events are kept that a projection was let pass without applying them.
 *
 * With on_error => 'skip' that is the event that failed; with 'park' also every later event
 * of its stream, as long as the stream has a letter.  retry.c applies them again.
 *
 * A letter whose event was taken away from its stream can never be applied.  It is removed
 * when that is noticed, and no other letter waits behind it.
 *
 * Invariant: letters are added, and removed when their events are applied, under the lock of
 * the projection's progress, so that no event of a parked stream overtakes another.
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
#include "streams/scavenge.h"
#include "streams/visible.h"

/* Remove letters that were applied, or whose events were taken away. */
static void
remove_letters(int id, const int64 *positions, int n)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.dead_letter WHERE projection_id = $1 AND position = ANY ($2)",
		{INT4OID, INT8ARRAYOID}
	};
	Datum		values[2] = {Int32GetDatum(id), es_spi_numbers(positions, n)};
	EsSpi		spi;

	if (n == 0)
		return;
	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}

void
es_dead_letters_done(int id, int64 position)
{
	remove_letters(id, &position, 1);
}

static EsDeadLetter *
read_letters(EsStatement *statement, const Datum *values, int *n)
{
	MemoryContext caller = CurrentMemoryContext;
	EsDeadLetter *letters;
	EsSpi		spi;
	bool		isnull;

	es_spi_begin(&spi);
	*n = (int) es_spi_run(statement, values, NULL);
	letters = MemoryContextAllocExtended(caller, sizeof(EsDeadLetter) * Max(*n, 1),
										 MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
	for (int i = 0; i < *n; i++)
	{
		letters[i].position = DatumGetInt64(es_spi_value(i + 1, 1, &isnull));
		letters[i].stream = MemoryContextStrdup(caller, es_spi_text(i + 1, 2));
		letters[i].parks = DatumGetBool(es_spi_value(i + 1, 3, &isnull));
		letters[i].attempts = DatumGetInt32(es_spi_value(i + 1, 4, &isnull));
	}
	es_spi_end(&spi);
	return letters;
}

/*
 * Keep the letters whose events are still shown, in their order; how many there are.  The
 * others are removed: they can never be applied.
 */
static int
keep_shown(const EsCatalog *cat, int id, EsDeadLetter *letters, int n)
{
	int64	   *positions = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(int64) * Max(n, 1));
	bool	   *shown = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(bool) * Max(n, 1));
	int			kept = 0;
	int			ngone = 0;

	for (int i = 0; i < n; i++)
		positions[i] = letters[i].position;
	es_visible_look_at(cat, positions, n, shown);
	for (int i = 0; i < n; i++)
	{
		if (shown[i])
			letters[kept++] = letters[i];
		else
			positions[ngone++] = positions[i];
	}
	remove_letters(id, positions, ngone);
	pfree(positions);
	pfree(shown);
	return kept;
}

/*
 * The letters of a projection in the order of positions, but for those whose events were
 * taken away.
 */
EsDeadLetter *
es_dead_letters_read(const EsCatalog *cat, int id, int *n)
{
	static EsStatement read = {
		"SELECT position, stream, parks, attempts FROM eventstore.dead_letter"
		" WHERE projection_id = $1 ORDER BY position",
		{INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(id)};
	EsDeadLetter *letters = read_letters(&read, values, n);

	*n = keep_shown(cat, id, letters, *n);
	return letters;
}

/* Is there a letter that parks this stream, its event being shown? */
static bool
is_parked(const EsCatalog *cat, int id, const char *stream)
{
	static EsStatement read = {
		"SELECT position, stream, parks, attempts FROM eventstore.dead_letter"
		" WHERE projection_id = $1 AND stream = $2 AND parks",
		{INT4OID, TEXTOID}
	};
	Datum		values[2] = {Int32GetDatum(id), CStringGetTextDatum(stream)};
	int			n;
	EsDeadLetter *letters = read_letters(&read, values, &n);

	return keep_shown(cat, id, letters, n) > 0;
}

/*
 * The streams with a letter that parks, whatever on_error says now; NULL: none.  Of each
 * stream the last such letter is looked at: a stream loses its first events first, so if the
 * last letter's event is shown, the stream is parked.
 */
EsNameSet *
es_dead_letters_parked_streams(const EsCatalog *cat, int id)
{
	static EsStatement read = {
		"SELECT DISTINCT ON (stream) position, stream, parks, attempts FROM eventstore.dead_letter"
		" WHERE projection_id = $1 AND parks ORDER BY stream, position DESC",
		{INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(id)};
	EsNameSet  *streams;
	EsDeadLetter *letters;
	int64	   *positions;
	bool	   *shown;
	int			n;

	letters = read_letters(&read, values, &n);
	if (n == 0)
		return NULL;
	streams = es_name_set_create("eventstore parked streams");
	positions = palloc(sizeof(int64) * n);
	shown = palloc(sizeof(bool) * n);
	for (int i = 0; i < n; i++)
		positions[i] = letters[i].position;
	es_visible_look_at(cat, positions, n, shown);
	for (int i = 0; i < n; i++)
	{
		if (shown[i] || is_parked(cat, id, letters[i].stream))
			es_name_set_add(streams, es_name_from_string(letters[i].stream));
	}
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

/* Store letters for events that wait behind a letter of their stream. */
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
		"SELECT stream FROM eventstore.event_log WHERE position = $1",
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

/* Store a letter for an event that the projection is let pass after that many attempts. */
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
 * The current user skips the event that the projection failed at: store a letter for it, with
 * the error in the projection's progress.
 */
void
es_dead_letters_skip(const EsProjection *projection, int64 position)
{
	static EsStatement skip = {
		"INSERT INTO eventstore.dead_letter"
		" (projection_id, position, stream, parks, attempts, error, sqlstate, detail, hint, context,"
		"  skipped_by, failed_at)"
		" SELECT g.projection_id, l.position, l.stream, $3, g.failures, g.error, g.sqlstate, g.detail, g.hint,"
		"  g.context, $4, g.failed_at"
		" FROM eventstore.projection_progress g"
		" JOIN eventstore.event_log l ON l.position = $2"
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

/* Remove all letters of a projection that is rebuilt: it will come to the events again. */
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

/*
 * Remove the letters of events that are being removed (streams/scavenge.c).  A letter that
 * somebody has locked is left to its next reader, who does not find its event.
 */
static void
remove_letters_at(const int64 *positions, int n)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.dead_letter WHERE ctid IN"
		" (SELECT ctid FROM eventstore.dead_letter WHERE position = ANY ($1) FOR UPDATE SKIP LOCKED)",
		{INT8ARRAYOID}
	};
	Datum		values[1] = {es_spi_numbers(positions, n)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
	es_spi_end(&spi);
}

void
es_dead_letters_init(void)
{
	es_scavenge_add_listener(remove_letters_at);
}
