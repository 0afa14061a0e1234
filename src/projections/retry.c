/*
 * retry.c
 *		es_retry_dead_letters: applying again the events that a projection was let pass.
 *
 * Letters are applied in the order of positions, each in a subtransaction.  If a letter
 * stays, because it was not asked for or failed again, those that wait behind it in its
 * stream stay too.  A letter whose event was taken away from its stream is removed and not
 * counted, and none waits behind it.
 *
 * Invariant: a letter goes in the transaction that applies its event.
 *
 * Locks: those of catchup.c.
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "core/numbers.h"
#include "core/subxact.h"
#include "log/change.h"
#include "projections/call.h"
#include "projections/control.h"
#include "projections/dead_letters.h"
#include "projections/events.h"

PG_FUNCTION_INFO_V1(es_retry_dead_letters);

/* Returns how many events were applied: none if the event was taken away just now. */
static int64
apply_letter(const EsCatalog *cat, const EsProjection *projection, const EsDeadLetter *letter)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EsTaken		taken = es_events_read(cat, projection, letter->position - 1, letter->position,
									   snapshot, 1, NULL);
	int64		events = taken.batch->count;

	if (events > 0)
		es_call_apply(projection, cat, taken.batch);
	es_batch_free(taken.batch);
	UnregisterSnapshot(snapshot);
	return events;
}

/* A letter that is tried once more. */
typedef struct Retry
{
	const EsCatalog *cat;
	int			id;				/* of the projection */
	const EsDeadLetter *letter;
	int64		applied;		/* events */
} Retry;

static bool
run_retry(void *arg)
{
	Retry	   *retry = arg;
	/* users' code has run since the last look (definition.h) */
	const EsProjection *projection = es_definition_by_id(retry->cat, retry->id);

	if (projection != NULL)
		retry->applied = apply_letter(retry->cat, projection, retry->letter);
	es_dead_letters_done(retry->id, retry->letter->position);
	return true;
}

/*
 * Apply a letter in a subtransaction.  False: it failed again; the failure is noted, and the
 * letter stays.
 */
static bool
try_letter(const EsCatalog *cat, int id, const EsDeadLetter *letter, int64 *applied)
{
	Retry		retry = {.cat = cat, .id = id, .letter = letter};
	EsDeadLetter again = *letter;
	ErrorData  *error = es_subxact_try("eventstore_retry", run_retry, &retry);
	EsError		parts;

	if (error == NULL)
	{
		*applied += retry.applied;
		return true;
	}
	/* the event is not to blame: the caller gets the error */
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
	EsNameSet  *blocked = es_name_set_create("eventstore blocked streams");
	int			n;
	int64		applied = 0;

	if (wanted != NULL)
		nwanted = es_numbers_unique(wanted, nwanted);
	es_control_require_read_committed("es_retry_dead_letters()");
	es_definition_require_owner(projection);
	(void) es_control_lock(cat, projection, &progress);
	letters = es_dead_letters_read(cat, id, &n);
	for (int i = 0; i < n; i++)
	{
		const EsDeadLetter *letter = &letters[i];
		bool		try = (wanted == NULL || es_numbers_find(wanted, nwanted, letter->position) != NULL) &&
			!(letter->parks && es_name_set_has(blocked, es_name_from_string(letter->stream)));

		CHECK_FOR_INTERRUPTS();
		if (!(try && try_letter(cat, id, letter, &applied)) && letter->parks)
			es_name_set_add(blocked, es_name_from_string(letter->stream));
	}
	PG_RETURN_INT64(applied);
}
