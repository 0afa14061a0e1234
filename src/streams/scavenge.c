/*
 * scavenge.c
 *		Removing the events that truncation, deletion and retention hide.
 *
 * A pass removes the rows of removed_id whose time is over (removed.c), goes over the
 * streams in eventstore.hidden, and then, for each rule of retention, over the streams that
 * the rule applies to.  It consists of steps of some events each.  The scheduler commits
 * after each step, so that no lock is held for longer than some milliseconds; es_scavenge()
 * makes a whole pass in its caller's transaction.
 *
 * Rows are removed through the table access method, past the guard's triggers: nobody
 * else can remove an event.  Users' DELETE triggers are not fired, and foreign keys to
 * event_log not looked at.
 *
 * An append may use the id of a hidden event again when the id's time is over; it removes
 * that event itself.  Higher rooms keep rows about events, dead letters for example: a
 * listener that they add when the library is loaded removes these with the events.
 *
 * Invariants
 * 1. One pass at a time works on a store: it holds ShareUpdateExclusive on
 *    eventstore.hidden.
 * 2. What is removed is shown to no reader with a newer snapshot (visible.c); older
 *    snapshots still find the removed rows, as after any DELETE.
 * 3. The version of a stream is that of its last event.  It is removed only when the
 *    stream's row keeps that version, which is written under the row's lock, in the
 *    same transaction.  A stream that somebody holds is left for the next pass, and so
 *    is an event whose row somebody has locked: no step waits for a user's transaction.
 * 4. Positions are not touched: the register says which have been handed out,
 *    whatever events there are (log/positions.c).
 * 5. An event that is removed leaves its id in removed_id, in the same transaction
 *    (removed.c).
 * 6. A pass ends where the store is not the one that it began in.
 *
 * Lock order: event_log, scavenging, stream, event_tag, removed_id, hidden.  Rows are
 * locked without waiting; those of scavenged, and those that listeners remove, last.
 * Crash: a step is done or not; the next pass finds what is left.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/spi.h"
#include "log/event.h"
#include "log/tags.h"
#include "log/version.h"
#include "streams/gone.h"
#include "streams/hidden.h"
#include "streams/lifecycle.h"
#include "streams/removed.h"
#include "streams/scavenge.h"
#include "streams/visible.h"

PG_FUNCTION_INFO_V1(es_scavenge);

/* Most streams in one step. */
#define STREAMS_A_STEP	100

/* Most positions in one call of a listener. */
#define TOLD_AT_ONCE	1000

/* Where a pass stands. */
struct EsScavenge
{
	MemoryContext context;
	uint64		generation;		/* of the store; 0: before the first step */
	bool		ids_done;		/* rows of removed_id whose time is over are gone */
	bool		by_rules;		/* eventstore.hidden is done */
	char	   *rule;			/* the rule that was last taken up; NULL: none */
	bool		in_rule;		/* its streams are not done */
	char	   *stream;			/* the stream that was last done with; NULL: none */
	char	   *partial;		/* the stream that a step ended in; NULL: none */
	int64		reached;		/* its events up to there are removed */
	bool		kept_out;		/* somebody has kept it from something that is hidden */
	TimestampTz again_at;		/* a rule hides the next event then; 0: none does */
};

/* What a step works with. */
typedef struct Step
{
	const EsCatalog *cat;
	Relation	log;
	Relation	index;
	Snapshot	snapshot;
	EsStreams  *streams;
	EsVisible  *visible;
	EsLookup   *hidden;			/* NULL: nothing is */
	EsRemovals *removals;		/* NULL: nothing was removed yet */
	EsHidden	by_statement;	/* of the present stream */
	int64	   *told;			/* positions that listeners are yet to be called with */
	int			ntold;
	IndexScanDesc scan;
	TupleTableSlot *event;
	int64		reached;		/* version in the present stream: nothing is left before */
	int64		left;			/* events that it may still remove */
	int64		removed;
	TimestampTz again_at;		/* as in the pass */
} Step;

static EsStatement hidden_streams = {
	"SELECT s.name FROM eventstore.hidden h JOIN eventstore.stream s USING (stream_key)"
	" WHERE s.name > $1 ORDER BY s.name LIMIT $2", {TEXTOID, INT4OID}
};

static EsStatement hidden_done = {
	"DELETE FROM eventstore.hidden WHERE ctid = ("
	"SELECT ctid FROM eventstore.hidden WHERE stream_key = $1 AND before_version <= $2 FOR UPDATE SKIP LOCKED)",
	{INT8OID, INT8OID}
};

static EsStatement next_rule = {
	"SELECT name FROM eventstore.retention WHERE name > $1 OR ($1 = '' AND $2) ORDER BY name LIMIT 1",
	{TEXTOID, BOOLOID}
};

/* In the order of bytes what begins with "Order-" stands before "Order.". */
static EsStatement streams_of_rule = {
	"SELECT s.name FROM eventstore.stream s"
	" WHERE s.name > $2 AND s.name >= $1 AND ($1 = '' OR s.name < $1 || '.')"
	" AND (s.name = $1 OR NOT EXISTS (SELECT FROM eventstore.retention r WHERE r.name = s.name))"
	" ORDER BY s.name LIMIT $3",
	{TEXTOID, TEXTOID, INT4OID}
};

/* ---- listeners ---- */

static EsRemovedListener listeners[2];
static int	nlisteners = 0;

/* Add a function to be called with removed events.  Call this when the library is loaded. */
void
es_scavenge_add_listener(EsRemovedListener listener)
{
	if (nlisteners == lengthof(listeners))
		elog(ERROR, "too many rooms want to be told of removed events");
	listeners[nlisteners++] = listener;
}

static void
tell_listeners(Step *step)
{
	for (int i = 0; step->ntold > 0 && i < nlisteners; i++)
		listeners[i] (step->told, step->ntold);
	step->ntold = 0;
}

/* ---- removing ---- */

/*
 * Keep the version of a stream in its row, before its last event goes (3).  False:
 * somebody holds the stream, or it has changed.
 */
static bool
keep_version(Step *step, const EsStream *seen, int64 version)
{
	EsStream	stream = {.name = seen->name};

	if (!es_stream_try_lock(step->streams, &stream) || stream.used_version != seen->used_version)
		return false;
	stream.used_version = version;
	stream.deleted = false;		/* not at this version: it has been written again since */
	es_stream_update(step->streams, &stream);
	return true;
}

static bool
is_shown(TupleTableSlot *event, const EsShown *shown)
{
	return es_log_number(event, ES_LOG_COL_VERSION) >= shown->first_version &&
		es_log_number(event, ES_LOG_COL_CREATED_AT) >= shown->since;
}

/* A rule that hides by age leaves this event: when will it hide it? */
static void
note_age(Step *step, TupleTableSlot *event, const EsShown *shown)
{
	TimestampTz at;

	if (TIMESTAMP_NOT_FINITE(shown->since))
		return;
	at = GetCurrentTimestamp() + (es_log_number(event, ES_LOG_COL_CREATED_AT) - shown->since);
	if (step->again_at == 0 || at < step->again_at)
		step->again_at = at;
}

/* The version of a stream as it is now. */
static int64
current_version(Step *step, const EsStream *stream)
{
	EsVersions *versions = es_versions_open(step->cat, step->log, RowExclusiveLock, step->snapshot);
	int64		version = es_version_of(versions, stream);

	es_versions_close(versions);
	return version;
}

/* False: the event is gone, or its row is locked and that is not to be waited for. */
static bool
delete_event(const EsCatalog *cat, Relation log, TupleTableSlot *event, Snapshot snapshot, bool wait)
{
	TM_FailureData failure;
	Datum		tags;
	bool		no_tags;

	if (table_tuple_delete(log, &event->tts_tid, GetCurrentCommandId(true), snapshot,
						   InvalidSnapshot, wait, &failure, false) != TM_Ok)
		return false;
	tags = slot_getattr(event, ES_LOG_COL_TAGS, &no_tags);
	if (!no_tags)
		es_tags_remove(cat, snapshot, tags, es_log_number(event, ES_LOG_COL_POSITION));
	return true;
}

/* False: the event is gone, or somebody has locked its row. */
static bool
remove_event(Step *step, TupleTableSlot *event)
{
	bool		by_statement = es_log_number(event, ES_LOG_COL_VERSION) < step->by_statement.before;

	if (!delete_event(step->cat, step->log, event, step->snapshot, false))
		return false;
	if (step->removals == NULL)
		step->removals = es_removals_open(step->cat);
	es_removals_add(step->removals, event, by_statement ? step->by_statement.at : GetCurrentTimestamp());	/* (5) */
	step->told[step->ntold++] = es_log_number(event, ES_LOG_COL_POSITION);
	if (step->ntold == TOLD_AT_ONCE)
		tell_listeners(step);
	return true;
}

/*
 * Remove the events of a stream that are not shown, from its first on.  True: none is
 * left.
 */
static bool
remove_hidden(Step *step, const EsStream *stream, const EsShown *shown)
{
	TupleTableSlot *event = step->event;
	ScanKeyData keys[2];
	int64		version = 0;	/* of the stream; 0: not known yet */
	bool		done = true;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->key));
	ScanKeyInit(&keys[1], 2, BTGreaterStrategyNumber, F_INT8GT, Int64GetDatum(step->reached));
	index_rescan(step->scan, keys, 2, NULL, 0);
	while (index_getnext_slot(step->scan, ForwardScanDirection, event))
	{
		CHECK_FOR_INTERRUPTS();
		if (is_shown(event, shown))
		{
			note_age(step, event, shown);
			break;
		}
		if (step->left == 0)
		{
			done = false;
			break;
		}
		if (version == 0)
			version = current_version(step, stream);
		if (es_log_number(event, ES_LOG_COL_VERSION) == version &&
			version > stream->used_version && !keep_version(step, stream, version))
		{
			done = false;
			break;
		}
		if (!remove_event(step, event))
		{
			done = false;
			break;
		}
		step->reached = es_log_number(event, ES_LOG_COL_VERSION);
		step->left--;
		step->removed++;
	}
	ExecClearTuple(event);
	return done;
}

/*
 * Look at one stream.  True: nothing is left to do there for this pass.
 */
static bool
scavenge_stream(EsScavenge *scavenge, Step *step, const char *name, bool hidden)
{
	EsStream	stream = {.name = es_name_from_string(name)};
	int64		before = step->removed;
	EsShown		shown;
	bool		done;

	if (!es_stream_find(step->streams, &stream))
		return true;
	shown = es_visible_ask(step->visible, &stream);
	step->by_statement = es_hidden_find(step->hidden, stream.key);
	done = remove_hidden(step, &stream, &shown);
	es_gone_count(stream.name, step->removed - before);
	/* what a statement has hidden since this step's snapshot was not looked at: that row stays */
	if (done && hidden)
	{
		Datum		values[2] = {Int64GetDatum(stream.key), Int64GetDatum(step->by_statement.before)};

		(void) es_spi_run(&hidden_done, values, NULL);
	}
	/* what is left, whoever holds the stream keeps from us: it is for the next pass */
	scavenge->kept_out |= !done && step->left > 0;
	return done || step->left > 0;
}

/* ---- a pass ---- */

EsScavenge *
es_scavenge_begin(MemoryContext context)
{
	EsScavenge *scavenge = MemoryContextAllocZero(context, sizeof(EsScavenge));

	scavenge->context = context;
	return scavenge;
}

static void
set_name(EsScavenge *scavenge, char **name, const char *value)
{
	if (*name != NULL)
		pfree(*name);
	*name = value != NULL ? MemoryContextStrdup(scavenge->context, value) : NULL;
}

void
es_scavenge_end(EsScavenge *scavenge)
{
	set_name(scavenge, &scavenge->rule, NULL);
	set_name(scavenge, &scavenge->stream, NULL);
	set_name(scavenge, &scavenge->partial, NULL);
	pfree(scavenge);
}

/* Is nothing left of what was hidden when the pass came by? */
bool
es_scavenge_is_complete(const EsScavenge *scavenge)
{
	return !scavenge->kept_out;
}

/* When a rule of retention will hide the next event by its age; 0: not before the next append. */
TimestampTz
es_scavenge_again_at(const EsScavenge *scavenge)
{
	return scavenge->again_at;
}

static Datum
name_or_empty(const char *name)
{
	return CStringGetTextDatum(name != NULL ? name : "");
}

/* Names in the last statement's result, which the next one replaces. */
static char **
take_names(int n)
{
	char	  **names = palloc(sizeof(char *) * Max(n, 1));

	for (int i = 0; i < n; i++)
		names[i] = es_spi_text(i + 1, 1);
	return names;
}

/*
 * Look at the next stream, from where the last step ended in it: the entries of removed
 * events may still be in the way of an index scan.  False: the step ends here.
 */
static bool
scavenge_next(EsScavenge *scavenge, Step *step, char *name, bool hidden)
{
	bool		goes_on = scavenge->partial != NULL && strcmp(scavenge->partial, name) == 0;
	bool		done;

	step->reached = goes_on ? scavenge->reached : 0;
	done = scavenge_stream(scavenge, step, name, hidden);
	set_name(scavenge, &scavenge->partial, done ? NULL : name);
	scavenge->reached = step->reached;
	if (done)
		set_name(scavenge, &scavenge->stream, name);
	return done;
}

/* Look at some streams in eventstore.hidden. */
static void
scavenge_hidden(EsScavenge *scavenge, Step *step)
{
	Datum		values[2] = {name_or_empty(scavenge->stream), Int32GetDatum(STREAMS_A_STEP)};
	int			n = (int) es_spi_look(&hidden_streams, values);
	char	  **names = take_names(n);

	for (int i = 0; i < n && step->left > 0; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!scavenge_next(scavenge, step, names[i], true))
			return;
	}
	if (n == 0)
	{
		scavenge->by_rules = true;
		set_name(scavenge, &scavenge->stream, NULL);
	}
}

/* Take up the next rule; false: there is none. */
static bool
take_rule(EsScavenge *scavenge)
{
	Datum		values[2] = {name_or_empty(scavenge->rule), BoolGetDatum(scavenge->rule == NULL)};

	if (es_spi_look(&next_rule, values) == 0)
		return false;
	set_name(scavenge, &scavenge->rule, es_spi_text(1, 1));
	set_name(scavenge, &scavenge->stream, NULL);
	scavenge->in_rule = true;
	return true;
}

/* Is this stream the rule's?  The statement gives some others of similar names. */
static bool
is_of_rule(const char *name, const char *rule)
{
	EsName		stream = es_name_from_string(name);
	EsName		wanted = es_name_from_string(rule);

	return es_name_equal(stream, wanted) || es_name_equal(es_name_category(stream), wanted);
}

/* Look at some streams of the rule. */
static void
scavenge_rule(EsScavenge *scavenge, Step *step)
{
	Datum		values[3] = {
		CStringGetTextDatum(scavenge->rule), name_or_empty(scavenge->stream),
		Int32GetDatum(STREAMS_A_STEP)
	};
	int			n = (int) es_spi_look(&streams_of_rule, values);
	char	  **names = take_names(n);

	for (int i = 0; i < n && step->left > 0; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (!is_of_rule(names[i], scavenge->rule))
			set_name(scavenge, &scavenge->stream, names[i]);
		else if (!scavenge_next(scavenge, step, names[i], false))
			return;
	}
	scavenge->in_rule = n > 0;
}

/*
 * Make a step, in the caller's transaction, which holds es_scavenge_lock.  False: the
 * pass has ended.
 */
bool
es_scavenge_step(EsScavenge *scavenge, const EsCatalog *cat, int max_events, int64 *removed)
{
	Step		step = {.cat = cat, .left = max_events, .again_at = scavenge->again_at};
	bool		more = true;
	EsSpi		spi;

	if (scavenge->generation == 0)
		scavenge->generation = es_catalog_generation();
	if (scavenge->generation != es_catalog_generation())	/* (6) */
		return false;
	if (!scavenge->ids_done)
	{
		scavenge->ids_done = es_removed_forget(max_events) < max_events;
		return true;
	}
	es_spi_begin(&spi);			/* what follows lives in its memory */
	step.told = palloc(sizeof(int64) * TOLD_AT_ONCE);
	step.log = table_open(cat->event_log, RowExclusiveLock);
	step.index = index_open(cat->event_log_stream, RowExclusiveLock);
	step.snapshot = RegisterSnapshot(GetLatestSnapshot());
	step.streams = es_streams_open(cat, RowExclusiveLock, SnapshotSelf);
	step.visible = es_visible_open(cat, step.snapshot);
	step.hidden = es_lookup_open_unless_empty(cat->hidden, &cat->hidden_pkey, step.snapshot);
	step.scan = es_compat_index_beginscan(step.log, step.index, step.snapshot, 2);
	step.event = table_slot_create(step.log, NULL);
	if (!scavenge->by_rules)
		scavenge_hidden(scavenge, &step);
	else if (scavenge->in_rule || take_rule(scavenge))
		scavenge_rule(scavenge, &step);
	else
		more = false;
	es_removals_close(step.removals);
	tell_listeners(&step);
	ExecDropSingleTupleTableSlot(step.event);
	index_endscan(step.scan);
	es_lookup_close(step.hidden);
	es_visible_close(step.visible);
	es_streams_close(step.streams);
	UnregisterSnapshot(step.snapshot);
	index_close(step.index, NoLock);
	table_close(step.log, NoLock);
	es_spi_end(&spi);
	CommandCounterIncrement();
	*removed += step.removed;
	scavenge->again_at = step.again_at;
	return more;
}

/*
 * An id is used again: remove the event that has it, which a statement hides and whose time
 * is over.  The stream's row keeps the version since that statement (lifecycle.c), so no lock
 * on the stream is needed.  Waits for whoever else is removing the event.  It is not counted
 * as gone: the caller stores it anew, and would wait for others who count theirs.
 */
void
es_scavenge_give_way(const EsCatalog *cat, Relation log, TupleTableSlot *event)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());

	(void) delete_event(cat, log, event, snapshot, true);
	UnregisterSnapshot(snapshot);
}

/*
 * Is there work for a pass: hidden events, rules of retention, or ids whose time is over?
 */
bool
es_scavenge_is_wanted(void)
{
	static EsStatement look = {
		"SELECT 1 WHERE EXISTS (SELECT FROM eventstore.hidden) OR EXISTS (SELECT FROM eventstore.retention)",
		{InvalidOid}
	};
	EsSpi		spi;
	bool		wanted;

	es_spi_begin(&spi);
	wanted = es_spi_look(&look, NULL) > 0;
	es_spi_end(&spi);
	return wanted || es_removed_are_due();
}

/*
 * Keep other passes out, to the end of the transaction (1).
 */
bool
es_scavenge_lock(const EsCatalog *cat, bool wait)
{
	if (!wait)
		return ConditionalLockRelationOid(cat->hidden, ShareUpdateExclusiveLock);
	LockRelationOid(cat->hidden, ShareUpdateExclusiveLock);
	return true;
}

/*
 * es_scavenge() → bigint
 */
Datum
es_scavenge(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat = es_lifecycle_begin("es_scavenge()");
	EsScavenge *scavenge = es_scavenge_begin(CurrentMemoryContext);
	int64		removed = 0;

	(void) es_scavenge_lock(cat, true);
	while (es_scavenge_step(scavenge, cat, PG_INT32_MAX, &removed))
		CHECK_FOR_INTERRUPTS();
	es_scavenge_end(scavenge);
	PG_RETURN_INT64(removed);
}
