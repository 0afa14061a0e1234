/*
 * failure.c
 *		What happens when a worker could not apply a batch.
 *
 * The transaction of the batch has been aborted.  First the failing event is found: of a
 * handler or a reducer it is known; of a query's batch the first half is tried, again and
 * again.  On the way the events before it are applied and committed.  Then the event alone
 * is tried again, after 0.1, 0.2, 0.4 ... seconds, up to a minute; after max_retries
 * on_error decides.
 *
 * Not every error is the event's:
 *	transient	a deadlock, a lock time-out: tried again for ever
 *	outside		a full disk, no memory: tried again for ever
 *	code		a missing table, a right that was taken away: every event would fail,
 *				so none is skipped: after max_retries the projection is stopped
 *
 * Each failure that differs from the one before it, and what on_error decided, goes to the
 * server's log, with DETAIL, HINT and CONTEXT; the tables have the same.
 *
 * Invariant: a failure is recorded in a transaction of its own, under the lock of the
 * projection's progress.  If the process ends before that, the next process fails anew.
 *
 * Lock order: event_log, projection_progress, projection.
 * Crash: see the invariant.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "projections/call.h"
#include "projections/dead_letters.h"
#include "projections/failure.h"
#include "projections/progress.h"
#include "projections/turn.h"

#define FIRST_DELAY_MS		100
#define GREATEST_DELAY_MS	60000
/* Most events in the first batch after an event was let pass. */
#define FRESH_BATCH			1000

typedef enum Cause
{
	CAUSE_EVENT,
	CAUSE_TRANSIENT,
	CAUSE_OUTSIDE,
	CAUSE_CODE
} Cause;

static Cause
cause_of(int sqlstate)
{
	switch (sqlstate)
	{
		case ERRCODE_DISK_FULL:
		case ERRCODE_OUT_OF_MEMORY:
		case ERRCODE_TOO_MANY_CONNECTIONS:
		case ERRCODE_CANNOT_CONNECT_NOW:
		case ERRCODE_IO_ERROR:
			return CAUSE_OUTSIDE;
		case ERRCODE_LOCK_NOT_AVAILABLE:
			return CAUSE_TRANSIENT;
		case ERRCODE_UNDEFINED_SCHEMA:
			return CAUSE_CODE;
		default:
			break;
	}
	switch (ERRCODE_TO_CATEGORY(sqlstate))
	{
		case ERRCODE_TRANSACTION_ROLLBACK:
			return CAUSE_TRANSIENT;
		case ERRCODE_SYNTAX_ERROR_OR_ACCESS_RULE_VIOLATION:
			return CAUSE_CODE;
		default:
			return CAUSE_EVENT;
	}
}

static int64
delay_ms(int failures)
{
	return Min((int64) FIRST_DELAY_MS << Min(failures - 1, 20), GREATEST_DELAY_MS);
}

/*
 * How many events of a failed batch to try next; 0: the batch need not be smaller.
 */
static int64
narrower_limit(const EsProjection *projection, int64 events, int64 done, Cause cause)
{
	if (events <= 1 || cause == CAUSE_TRANSIENT || cause == CAUSE_OUTSIDE)
		return 0;
	/* no event is to blame: the function could not even be called */
	if (projection->form != ES_FORM_QUERY && es_call_failed_position() == 0 && done == 0)
		return 0;
	if (projection->form == ES_FORM_QUERY)
		return cause == CAUSE_CODE ? 0 : events / 2;
	/* all events were handled, but their states could not be stored */
	return done < events ? Max(done, 1) : events / 2;
}

/*
 * Write to the server's log what became of the projection, then the error with all its parts.
 */
static void
report_failure(const char *what, const ErrorData *error, const char *attempts, const char *advice)
{
	const char *detail = error->detail != NULL ? error->detail : error->detail_log;
	const char *hint = error->hint;

	if (attempts != NULL)
		detail = detail != NULL ? psprintf("%s\n%s", attempts, detail) : attempts;
	if (advice != NULL)
		hint = hint != NULL ? psprintf("%s\n%s", hint, advice) : advice;
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg_internal("%s: %s", what, error->message),
			 detail != NULL ? errdetail_internal("%s", detail) : 0,
			 hint != NULL ? errhint("%s", hint) : 0,
			 error->context != NULL ? errcontext("%s", error->context) : 0));
}

/* The batch is tried again.  Only a failure that differs from the last is written to the log. */
static void
note_retry(const EsProjection *projection, int64 position, int failures, const ErrorData *error)
{
	EsError		parts = es_error_of(error);

	if (!es_progress_fail(projection->id, failures, position, &parts))
		return;
	report_failure(position > 0 ?
				   psprintf("projection \"%s\" could not apply the event at position %lld", projection->name, (long long) position) :
				   psprintf("projection \"%s\" could not apply a batch", projection->name),
				   error, "It is tried again.", NULL);
}

static void
let_pass(const EsProjection *projection, int64 position, int failures, const ErrorData *error)
{
	EsError		parts = es_error_of(error);

	es_dead_letters_add(projection, position, failures, &parts);
	es_progress_move(projection->id, position);
	report_failure(psprintf("projection \"%s\" was let pass the event at position %lld, which it could not apply",
							projection->name, (long long) position),
				   error, psprintf("Tried %d times.", failures),
				   "See eventstore.dead_letters, and es_retry_dead_letters().");
}

static void
stop_projection(const EsProjection *projection, int64 position, int failures, const ErrorData *error)
{
	EsError		parts = es_error_of(error);

	(void) es_progress_fail(projection->id, failures, position, &parts);
	es_progress_set_state(projection->id, ES_STATE_STOPPED, false, projection->rebuild_up_to);
	report_failure(psprintf("projection \"%s\" is stopped by an error", projection->name),
				   error, position > 0 ?
				   psprintf("At position %lld, tried %d times.", (long long) position, failures) :
				   psprintf("Tried %d times.", failures),
				   "When the cause is mended, run es_resume_projection(); with skip_failed => true to go on without that event.");
}

/*
 * The batch of the projection of "figures" has failed and is rolled back.  It had "events"
 * events, of which "done" had been handled.  "cat" is its store, NULL if that has gone.
 * Assumes a new transaction, which the caller commits.
 */
void
es_failure_handle(const EsCatalog *cat, EsFigures *figures, int64 events, int64 done,
				  const ErrorData *error)
{
	Cause		cause = cause_of(error->sqlerrcode);
	int64		position = es_call_failed_position();
	const EsProjection *projection;
	EsProgress	progress;
	int64		fewer;

	if (cat == NULL || !es_progress_try_lock(figures->id, &progress) ||
		(projection = es_definition_under_lock(cat, figures->id)) == NULL ||
		!projection->runs)
		return;
	fewer = narrower_limit(projection, events, done, cause);
	if (fewer > 0)
	{
		es_turn_put_off(figures, 0, (int) fewer);
		return;
	}

	progress.failures++;
	if (cause == CAUSE_TRANSIENT || cause == CAUSE_OUTSIDE || progress.failures <= projection->max_retries)
	{
		note_retry(projection, position, progress.failures, error);
		es_turn_put_off(figures, delay_ms(progress.failures), cause == CAUSE_EVENT ? 1 : 0);
	}
	else if (projection->on_error == ES_ON_ERROR_STOP || cause == CAUSE_CODE || position == 0)
		stop_projection(projection, position, progress.failures, error);
	else
	{
		let_pass(projection, position, progress.failures, error);
		es_turn_put_off(figures, 0, FRESH_BATCH);
	}
}
