/*
 * retry.c
 *		es_retry_dead_letters: applying again what a projection was let pass.
 *
 * Letters are applied in the order of positions, each in a subtransaction.  One that
 * waits behind an earlier one of its stream that stays, because that was not asked for
 * or failed again, stays too.
 *
 * Invariant: a letter goes in the transaction that applies its event.
 *
 * Locks: those of catchup.c.
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "core/spi.h"
#include "core/subxact.h"
#include "log/change.h"
#include "projections/call.h"
#include "projections/control.h"
#include "projections/dead_letters.h"
#include "projections/events.h"

PG_FUNCTION_INFO_V1(es_retry_dead_letters);

static EsDeadLetter *
read_letters(int id, int *n)
{
	static EsStatement read = {
		"SELECT position, stream, parks, attempts FROM eventstore.dead_letter"
		" WHERE projection_id = $1 ORDER BY position",
		{INT4OID}
	};
	Datum		values[1] = {Int32GetDatum(id)};
	MemoryContext caller = CurrentMemoryContext;
	EsDeadLetter *letters;
	EsSpi		spi;
	bool		isnull;

	es_spi_begin(&spi);
	*n = (int) es_spi_run(&read, values, NULL);
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

static void
apply_letter(const EsCatalog *cat, const EsProjection *projection, const EsDeadLetter *letter)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EsTaken		taken = es_events_read(cat, projection, letter->position - 1, letter->position,
									   snapshot, 1, NULL);

	if (taken.batch->count > 0)
		es_call_apply(projection, cat, taken.batch);
	es_batch_free(taken.batch);
	UnregisterSnapshot(snapshot);
}

/* A letter that is tried once more. */
typedef struct Retry
{
	const EsCatalog *cat;
	int			id;				/* of the projection */
	const EsDeadLetter *letter;
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
try_letter(const EsCatalog *cat, int id, const EsDeadLetter *letter)
{
	Retry		retry = {cat, id, letter};
	EsDeadLetter again = *letter;
	ErrorData  *error = es_subxact_try("eventstore_retry", run_retry, &retry);
	EsError		parts;

	if (error == NULL)
		return true;
	/* not about the event: the caller's affair */
	if (error->sqlerrcode == ERRCODE_QUERY_CANCELED ||
		ERRCODE_TO_CATEGORY(error->sqlerrcode) == ERRCODE_TRANSACTION_ROLLBACK)
		ReThrowError(error);
	again.attempts++;
	parts = es_error_of(error);
	again.error = &parts;
	es_dead_letters_store(id, &again);
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
	EsDeadLetter *letters;
	List	   *blocked = NIL;
	int			n;
	int64		applied = 0;

	es_control_require_read_committed("es_retry_dead_letters()");
	es_definition_require_owner(projection);
	(void) es_control_lock(cat, projection, &progress);
	letters = read_letters(id, &n);
	for (int i = 0; i < n; i++)
	{
		const EsDeadLetter *letter = &letters[i];
		bool		try = is_wanted(wanted, nwanted, letter->position) &&
			!(letter->parks && waits(blocked, letter->stream));

		CHECK_FOR_INTERRUPTS();
		if (try && try_letter(cat, id, letter))
			applied++;
		else if (letter->parks)
			blocked = lappend(blocked, (void *) letter->stream);
	}
	PG_RETURN_INT64(applied);
}
