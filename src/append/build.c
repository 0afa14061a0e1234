/*
 * build.c
 *		From the parts of events to an EsAppend: how a call is put together.
 *
 * For all that append, the SQL functions (call.c) and the table to write to
 * (waiting_rows.c).  Each part is checked as it is set, and the whole event when all of
 * it is there (es_build_check); execute.c can rely on names of the right form, sizes within
 * the limit and sensible versions.
 *
 * Memory: everything lives in the caller's context, for the length of the call.
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/detoast.h"
#include "catalog/pg_type.h"
#include "common/hashfn.h"
#include "port/pg_bitutils.h"
#include "utils/array.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "append/build.h"
#include "core/settings.h"
#include "log/tags.h"
#include "log/version.h"
#include "projections/call.h"

/* ---- the events ---- */

/*
 * The setting eventstore.metadata; NULL: none.
 * Parsed once a value.  The copy is the call's own: a trigger may change the setting
 * while the call is under way.
 */
static Jsonb *
metadata_setting(void)
{
	static char *parsed_from = NULL;
	static Jsonb *parsed = NULL;
	const char *setting = es_guc_metadata;
	Jsonb	   *copy;

	while (setting != NULL && isspace((unsigned char) *setting))
		setting++;
	if (setting == NULL || *setting == '\0')
		return NULL;
	if (parsed_from == NULL || strcmp(parsed_from, setting) != 0)
	{
		Jsonb	   *value = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum(setting)));
		char	   *from = MemoryContextStrdup(TopMemoryContext, setting);
		Jsonb	   *kept = MemoryContextAlloc(TopMemoryContext, VARSIZE(value));

		memcpy(kept, value, VARSIZE(value));
		if (parsed_from != NULL)
		{
			pfree(parsed_from);
			pfree(parsed);
		}
		parsed_from = from;
		parsed = kept;
	}
	copy = palloc(VARSIZE(parsed));
	memcpy(copy, parsed, VARSIZE(parsed));
	return copy;
}

/*
 * What the metadata of the call's events is merged over: the setting, and over that
 * what caused them, if a projection appends.  NULL: nothing.
 */
static Jsonb *
metadata_beneath(void)
{
	Jsonb	   *setting = metadata_setting();
	Jsonb	   *cause = es_call_cause();

	if (setting == NULL || cause == NULL)
		return setting != NULL ? setting : cause;
	return DatumGetJsonbP(DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(setting),
											  JsonbPGetDatum(cause)));
}

/* Room for n events, of which the call has none yet. */
void
es_build_room(EsAppend *call, int n)
{
	call->nevents = 0;
	call->metadata = n > 0 ? metadata_beneath() : NULL;
	call->events = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsEvent) * Max(n, 1));
}

/* One more event, without anything but defaults.  There is room for it. */
EsEvent *
es_build_event(EsAppend *call)
{
	EsEvent    *event = &call->events[call->nevents++];

	memset(event, 0, sizeof(EsEvent));
	event->schema_version = 1;
	event->content_type = ES_NAME_NONE;
	event->next = -1;
	return event;
}

/* Give the call n events, without anything but defaults. */
EsEvent *
es_build_events(EsAppend *call, int n)
{
	es_build_room(call, n);
	for (int i = 0; i < n; i++)
		(void) es_build_event(call);
	return call->events;
}

/* ---- parts of an event ---- */

void
es_build_expected_version(EsEvent *event, int64 version)
{
	es_version_check_expected(version);
	event->expects = true;
	event->expected_version = version;
}

void
es_build_schema_version(EsEvent *event, int32 version)
{
	if (version < 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("schema_version must be at least 1")));
	event->schema_version = version;
}

void
es_build_created_at(EsEvent *event, TimestampTz at)
{
	if (TIMESTAMP_NOT_FINITE(at))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("created_at must be finite")));
	event->has_created_at = true;
	event->created_at = at;
}

/*
 * Metadata of an event: what is beneath, and the call's own.  NULL and JSON null
 * are none.
 */
void
es_build_metadata(const EsAppend *call, EsEvent *event, Jsonb *own)
{
	if (own != NULL && JB_ROOT_IS_SCALAR(own))
	{
		JsonbValue	scalar;

		JsonbExtractScalar(&own->root, &scalar);
		if (scalar.type == jbvNull)
			own = NULL;
	}
	if (own != NULL && !JB_ROOT_IS_OBJECT(own))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("metadata must be a JSON object")));

	if (own == NULL && call->metadata == NULL)
		return;
	if (own == NULL)
		event->metadata = JsonbPGetDatum(call->metadata);
	else if (call->metadata == NULL)
		event->metadata = JsonbPGetDatum(own);
	else
		event->metadata = DirectFunctionCall2(jsonb_concat, JsonbPGetDatum(call->metadata),
											  JsonbPGetDatum(own));
}

/* Tags of an event, values of type text.  None at all is stored as NULL. */
void
es_build_tags(EsEvent *event, Datum *tags, const bool *nulls, int n)
{
	if (n == 0)
		return;
	event->tag_hashes = es_tags_check(tags, nulls, n, &event->ntags);
	event->tags = PointerGetDatum(construct_array(tags, n, TEXTOID, -1, false, TYPALIGN_INT));
}

/* The last check of an event, when all of it is there. */
void
es_build_check(const EsEvent *event)
{
	int64		size = toast_raw_datum_size(event->data) - VARHDRSZ;

	if (event->metadata != 0)
		size += toast_raw_datum_size(event->metadata) - VARHDRSZ;
	if (event->tags != 0)
		size += toast_raw_datum_size(event->tags) - VARHDRSZ;
	if (event->payload != 0)
		size += toast_raw_datum_size(event->payload) - VARHDRSZ;
	if (size > es_guc_max_event_size)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("event is too large: %lld bytes", (long long) size),
				 errdetail("The limit, eventstore.max_event_size, is %d bytes.", es_guc_max_event_size)));
	es_name_check(event->type, "type");
}

/* ---- the streams ---- */

/* One more stream, without events.  There is room for it. */
void
es_build_stream(EsAppend *call, EsName name)
{
	EsAppendStream *stream = &call->streams[call->nstreams++];

	es_name_check(name, "stream");
	memset(stream, 0, sizeof(*stream));
	stream->head.name = name;
	stream->category = es_name_category(name);
	stream->first = -1;
}

/* The event comes next in that stream. */
void
es_build_link(EsAppend *call, int event_no, int stream_no)
{
	EsAppendStream *stream = &call->streams[stream_no];

	call->events[event_no].stream = stream_no;
	if (stream->first < 0)
		stream->first = event_no;
	else
		call->events[stream->last].next = event_no;
	stream->last = event_no;
}

/* The first n events are all that is left of the call. */
void
es_build_keep(EsAppend *call, int n)
{
	if (n == call->nevents)
		return;
	call->nevents = n;
	for (int i = 0; i < call->nstreams; i++)
		call->streams[i].first = -1;
	for (int i = 0; i < n; i++)
	{
		call->events[i].next = -1;
		es_build_link(call, i, call->events[i].stream);
	}
}

/*
 * Room for the streams of n events, to be found by their names.
 */
void
es_build_streams(EsAppend *call, EsStreamTable *table, int n)
{
	call->streams = MemoryContextAllocHuge(CurrentMemoryContext, sizeof(EsAppendStream) * Max(n, 1));
	call->nstreams = 0;
	table->mask = pg_nextpower2_32(2 * Max(n, 1)) - 1;
	table->slots = MemoryContextAllocExtended(CurrentMemoryContext, sizeof(int) * (table->mask + 1),
											  MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
}

/* The stream of that name, a new one if need be. */
int
es_build_find_stream(EsAppend *call, EsStreamTable *table, EsName name)
{
	uint32		at = hash_bytes((const unsigned char *) name.bytes, name.len) & table->mask;

	for (; table->slots[at] != 0; at = (at + 1) & table->mask)
	{
		if (es_name_equal(call->streams[table->slots[at] - 1].head.name, name))
			return table->slots[at] - 1;
	}
	es_build_stream(call, name);
	table->slots[at] = call->nstreams;
	return call->nstreams - 1;
}
