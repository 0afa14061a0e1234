/*
 * dead_letters.c
 *		Events that a projection was let pass without applying them.
 *
 * With on_error => 'skip' that is the event that failed; with 'park' also every
 * later event of its stream, for as long as one of the stream waits.
 * es_retry_dead_letters applies them again, in order.
 *
 * Invariants
 * 1. Letters are added and removed under the lock of the projection's progress, so
 *    that no event of a parked stream overtakes another.
 * 2. A letter goes in the transaction that applies its event.
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

#include "core/args.h"
#include "core/spi.h"
#include "core/subxact.h"
#include "projections/call.h"
#include "projections/catchup.h"
#include "projections/control.h"
#include "projections/progress.h"

PG_FUNCTION_INFO_V1(es_retry_dead_letters);

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

static void
add_letter(int id, int64 position, const char *stream, bool parks, int attempts,
		   const char *message, const char *sqlstate)
{
	static EsStatement add = {
		"INSERT INTO eventstore.dead_letter"
		" (projection_id, position, stream, parks, attempts, error, sqlstate, failed_at)"
		" VALUES ($1, $2, $3, $4, $5, $6, $7, clock_timestamp())"
		" ON CONFLICT (projection_id, position) DO UPDATE SET parks = excluded.parks,"
		" attempts = excluded.attempts, error = excluded.error, sqlstate = excluded.sqlstate,"
		" failed_at = excluded.failed_at",
		{INT4OID, INT8OID, TEXTOID, BOOLOID, INT4OID, TEXTOID, TEXTOID}
	};
	Datum		values[7] = {
		Int32GetDatum(id), Int64GetDatum(position), CStringGetTextDatum(stream), BoolGetDatum(parks),
		Int32GetDatum(attempts), 0, 0
	};
	bool		isnull[7] = {false, false, false, false, false, message == NULL, message == NULL};
	EsSpi		spi;

	if (message != NULL)
	{
		values[5] = CStringGetTextDatum(message);
		values[6] = CStringGetTextDatum(sqlstate);
	}
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
		add_letter(projection->id, event->position, event->stream, true, 0, NULL, NULL);
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

/* An event that failed so often that it is let pass. */
void
es_dead_letters_add(const EsProjection *projection, int64 position, int attempts,
					const char *message, const char *sqlstate)
{
	char	   *stream = stream_of(position);

	if (stream == NULL)
		return;					/* removed meanwhile: nothing to apply later */
	add_letter(projection->id, position, stream, projection->on_error == ES_ON_ERROR_PARK,
			   attempts, message, sqlstate);
}

/* ---- retry ---- */

typedef struct Letter
{
	int64		position;
	char	   *stream;
	bool		parks;
	int			attempts;
} Letter;

static Letter *
read_letters(int id, int *n)
{
	static EsStatement read = {
		"SELECT position, stream, parks, attempts FROM eventstore.dead_letter"
		" WHERE projection_id = $1 ORDER BY position",
		{INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(id)};
	MemoryContext caller = CurrentMemoryContext;
	Letter	   *letters;
	EsSpi		spi;
	bool		isnull;

	es_spi_begin(&spi);
	*n = (int) es_spi_run(&read, values, NULL);
	letters = MemoryContextAllocHuge(caller, sizeof(Letter) * Max(*n, 1));
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

static void
remove_letter(int id, int64 position)
{
	static EsStatement remove = {
		"DELETE FROM eventstore.dead_letter WHERE projection_id = $1 AND position = $2",
		{INT4OID, INT8OID}
	};
	Datum		values[2] = {Int32GetDatum(id), Int64GetDatum(position)};
	EsSpi		spi;

	es_spi_begin(&spi);
	(void) es_spi_run(&remove, values, NULL);
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

static void
apply_letter(const EsCatalog *cat, const EsProjection *projection, const Letter *letter)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EsBatch    *batch = es_batch_read(cat, projection, letter->position - 1, letter->position,
									  snapshot, 1, NULL);

	if (batch->count > 0)
		es_call_apply(projection, cat, batch);
	es_batch_free(batch);
	UnregisterSnapshot(snapshot);
}

/* A letter that is tried once more. */
typedef struct Retry
{
	const EsCatalog *cat;
	int			id;				/* of the projection */
	const Letter *letter;
} Retry;

static bool
run_retry(void *arg)
{
	Retry	   *retry = arg;
	/* users' code has run since the last look (definition.h) */
	const EsProjection *projection = es_definition_by_id(retry->cat, retry->id);

	if (projection != NULL)
		apply_letter(retry->cat, projection, retry->letter);
	remove_letter(retry->id, retry->letter->position);
	return true;
}

/*
 * Apply a letter in a subtransaction.  False: it failed again, which is noted.
 */
static bool
try_letter(const EsCatalog *cat, int id, const Letter *letter)
{
	Retry		retry = {cat, id, letter};
	ErrorData  *error = es_subxact_try("eventstore_retry", run_retry, &retry);

	if (error == NULL)
		return true;
	/* not about the event: the caller's affair */
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
		ReThrowError(error);
	add_letter(id, letter->position, letter->stream, letter->parks, letter->attempts + 1,
			   error->message, unpack_sql_state(error->sqlerrcode));
	FreeErrorData(error);
	return false;
}

/* Does an earlier letter of this stream stay? */
static bool
waits(List *blocked, const char *stream)
{
	ListCell   *lc;

	foreach(lc, blocked)
	{
		if (strcmp(lfirst(lc), stream) == 0)
			return true;
	}
	return false;
}

static bool
is_wanted(const int64 *positions, int n, int64 position)
{
	for (int i = 0; positions != NULL && i < n; i++)
	{
		if (positions[i] == position)
			return true;
	}
	return positions == NULL;
}

/*
 * es_retry_dead_letters(name, positions) → bigint
 *
 * A letter that waits behind one that stays, because it was not asked for or failed
 * again, stays too.
 */
Datum
es_retry_dead_letters(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_control_begin("es_retry_dead_letters()");
	const EsProjection *projection = es_control_find(cat, fcinfo);
	int			id = projection->id;
	int			nwanted;
	int64	   *wanted = es_arg_positions(fcinfo, 1, "positions", &nwanted);
	EsProgress	progress;
	Letter	   *letters;
	List	   *blocked = NIL;
	int			n;
	int64		applied = 0;

	es_control_require_read_committed("es_retry_dead_letters()");
	(void) es_control_lock(cat, projection, &progress);
	letters = read_letters(id, &n);
	for (int i = 0; i < n; i++)
	{
		const Letter *letter = &letters[i];
		bool		try = is_wanted(wanted, nwanted, letter->position) &&
			!(letter->parks && waits(blocked, letter->stream));

		CHECK_FOR_INTERRUPTS();
		if (try && try_letter(cat, id, letter))
			applied++;
		else if (letter->parks)
			blocked = lappend(blocked, letter->stream);
	}
	PG_RETURN_INT64(applied);
}
