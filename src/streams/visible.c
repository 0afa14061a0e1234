/*
 * visible.c
 *		Which events of the log readers are shown.
 *
 * Truncation, deletion and retention hide events at once, for every reader whose
 * snapshot sees them done; scavenging (scavenge.c) removes the events some time
 * later.  So a reader does not notice when that happens: what it is shown is the same
 * before and after.
 *
 * Hidden are the events of a stream
 *	- before the version in eventstore.hidden, which has a row for each stream with
 *	  hidden events that are not removed yet (the same version stands in the stream's
 *	  row, where a read of one stream finds it);
 *	- before the last max_count, or older than max_age, by the stream's rule in
 *	  eventstore.retention, or if it has none, that of its category.
 *
 * A reader of many streams asks for each stream once and keeps the answer until its
 * snapshot is another one, or it has met very many streams.  Where nothing is hidden and
 * no rule stands, both tables are without pages and nothing at all is asked.
 *
 * Locks: AccessShare on hidden, retention and the log's indexes, given back.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/fmgrprotos.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "log/event.h"
#include "log/version.h"
#include "streams/hidden.h"
#include "streams/visible.h"

/* Columns of eventstore.retention */
#define RETENTION_COL_COUNT		2
#define RETENTION_COL_AGE		3

/* Streams whose answer is kept; with more, they are asked for again. */
#define MAX_KNOWN		16384

typedef struct KnownStream
{
	int64		key;			/* the hash key */
	EsShown		shown;
} KnownStream;

struct EsVisible
{
	const EsCatalog *cat;
	Snapshot	snapshot;
	TimestampTz now;
	EsLookup   *hidden;			/* NULL: nothing is */
	EsLookup   *retention;		/* NULL: there are no rules */
	Relation	log;			/* opened for a rule that counts */
	EsVersions *versions;
	HTAB	   *known;
	MemoryContext context;
};

static HTAB *
make_known(const EsVisible *visible)
{
	HASHCTL		ctl = {.keysize = sizeof(int64), .entrysize = sizeof(KnownStream), .hcxt = visible->context};

	return hash_create("eventstore streams shown", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* "of_rows": the caller has the rows of streams, so eventstore.hidden need not be looked at. */
static EsVisible *
begin_visible(const EsCatalog *cat, Snapshot snapshot, bool of_rows)
{
	EsLookup   *hidden = of_rows ? NULL : es_lookup_open_unless_empty(cat->hidden, &cat->hidden_pkey, snapshot);
	EsLookup   *retention = es_lookup_open_unless_empty(cat->retention, &cat->retention_pkey, snapshot);
	EsVisible  *visible;

	if (hidden == NULL && retention == NULL)
		return NULL;
	visible = palloc0(sizeof(EsVisible));
	visible->cat = cat;
	visible->snapshot = snapshot;
	visible->now = GetCurrentTimestamp();
	visible->hidden = hidden;
	visible->retention = retention;
	visible->context = CurrentMemoryContext;
	visible->known = make_known(visible);
	return visible;
}

/*
 * Begin to ask what is shown.  The snapshot stays registered meanwhile.  NULL: all events
 * are shown.
 */
EsVisible *
es_visible_open(const EsCatalog *cat, Snapshot snapshot)
{
	return begin_visible(cat, snapshot, false);
}

void
es_visible_close(EsVisible *visible)
{
	if (visible == NULL)
		return;
	es_lookup_close(visible->hidden);
	es_lookup_close(visible->retention);
	if (visible->versions != NULL)
	{
		es_versions_close(visible->versions);
		table_close(visible->log, AccessShareLock);
	}
	hash_destroy(visible->known);
	pfree(visible);
}

static int64
version_in_snapshot(EsVisible *visible, const EsStream *stream)
{
	if (visible->versions == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(visible->context);

		visible->log = table_open(visible->cat->event_log, AccessShareLock);
		visible->versions = es_versions_open(visible->cat, visible->log, AccessShareLock,
											 visible->snapshot);
		MemoryContextSwitchTo(old);
	}
	return es_version_of(visible->versions, stream);
}

static void
apply_rule(EsVisible *visible, const EsStream *stream, EsShown *shown)
{
	TupleTableSlot *rule;
	Datum		value;
	bool		isnull;

	rule = es_lookup_name(visible->retention, stream->name);
	if (rule == NULL)
		rule = es_lookup_name(visible->retention, es_name_category(stream->name));
	if (rule == NULL)
		return;
	value = slot_getattr(rule, RETENTION_COL_COUNT, &isnull);
	if (!isnull)
		shown->first_version = Max(shown->first_version,
								   version_in_snapshot(visible, stream) - DatumGetInt64(value) + 1);
	value = slot_getattr(rule, RETENTION_COL_AGE, &isnull);
	if (!isnull)
		shown->since = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_mi_interval,
															   TimestampTzGetDatum(visible->now), value));
}

static EsShown
shown_of_stream(EsVisible *visible, const EsStream *stream)
{
	EsShown		shown = {stream->first_version, DT_NOBEGIN};
	EsHidden	hidden = es_hidden_find(visible->hidden, stream->key);

	if (hidden.before > 0)
		shown.first_version = hidden.before;
	if (visible->retention != NULL)
		apply_rule(visible, stream, &shown);
	return shown;
}

/*
 * Is this event of the log shown?
 */
bool
es_visible_shows(EsVisible *visible, TupleTableSlot *event)
{
	int64		stream_key = es_log_number(event, ES_LOG_COL_STREAM_KEY);
	bool		known;
	KnownStream *entry = hash_search(visible->known, &stream_key, HASH_FIND, &known);

	if (!known)
	{
		EsStream	stream = {.key = stream_key, .name = es_log_stream(event)};
		EsShown		shown = shown_of_stream(visible, &stream);

		if (hash_get_num_entries(visible->known) >= MAX_KNOWN)
		{
			hash_destroy(visible->known);
			visible->known = make_known(visible);
		}
		entry = hash_search(visible->known, &stream_key, HASH_ENTER, NULL);
		entry->shown = shown;
	}
	return es_log_number(event, ES_LOG_COL_VERSION) >= entry->shown.first_version &&
		es_log_number(event, ES_LOG_COL_CREATED_AT) >= entry->shown.since;
}

/*
 * Which of the events at some positions are shown as of this moment.  One that was taken
 * away is not, whether it has been removed or not.
 */
void
es_visible_look_at(const EsCatalog *cat, const int64 *positions, int n, bool *shown)
{
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());
	EsVisible  *visible = es_visible_open(cat, snapshot);
	EsLookup   *events = es_log_lookup(cat, snapshot);

	for (int i = 0; i < n; i++)
	{
		TupleTableSlot *event;

		CHECK_FOR_INTERRUPTS();
		event = es_lookup_number(events, positions[i]);
		shown[i] = event != NULL && (visible == NULL || es_visible_shows(visible, event));
	}
	es_lookup_close(events);
	es_visible_close(visible);
	UnregisterSnapshot(snapshot);
}

/*
 * What is shown of a stream whose row has been found.
 */
EsShown
es_visible_ask(EsVisible *visible, const EsStream *stream)
{
	EsShown		shown = {stream->first_version, DT_NOBEGIN};

	if (visible == NULL)
		return shown;
	shown = shown_of_stream(visible, stream);
	shown.first_version = Max(shown.first_version, stream->first_version);
	return shown;
}

/* The same, for a single stream. */
EsShown
es_visible_of_stream(const EsCatalog *cat, Snapshot snapshot, const EsStream *stream)
{
	EsVisible  *visible = begin_visible(cat, snapshot, true);
	EsShown		shown = es_visible_ask(visible, stream);

	es_visible_close(visible);
	return shown;
}

/* Is any event of a stream shown that is in the log now?  The newest are looked at first. */
static bool
shows_any(const EsCatalog *cat, const EsStream *stream, const EsShown *shown)
{
	Relation	log = table_open(cat->event_log, AccessShareLock);
	Relation	index = index_open(cat->event_log_stream, AccessShareLock);
	IndexScanDesc scan = es_compat_index_beginscan(log, index, SnapshotSelf, 2);
	TupleTableSlot *event = table_slot_create(log, NULL);
	ScanKeyData keys[2];
	bool		found = false;

	ScanKeyInit(&keys[0], 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(stream->key));
	ScanKeyInit(&keys[1], 2, BTGreaterEqualStrategyNumber, F_INT8GE, Int64GetDatum(shown->first_version));
	index_rescan(scan, keys, 2, NULL, 0);
	while (!found && index_getnext_slot(scan, BackwardScanDirection, event))
	{
		CHECK_FOR_INTERRUPTS();
		found = es_log_number(event, ES_LOG_COL_CREATED_AT) >= shown->since;
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(event);
	index_close(index, AccessShareLock);
	table_close(log, AccessShareLock);
	return found;
}

/*
 * Is an expected version right at this moment?  The stream is locked, and "actual" is its
 * version.  Where at least one event is expected, one must be shown; that takes a look at the
 * log only if there are rules, or if the last version may have no event.
 */
bool
es_visible_version_matches(const EsCatalog *cat, const EsStream *stream, int64 expected, int64 actual)
{
	EsShown		shown;

	if (!es_version_matches(stream, expected, actual))
		return false;
	if (expected != ES_EXPECT_EXISTS)
		return true;
	shown = es_visible_of_stream(cat, SnapshotSelf, stream);
	if (actual < shown.first_version)
		return false;
	return (shown.since == DT_NOBEGIN && actual > stream->used_version) || shows_any(cat, stream, &shown);
}
