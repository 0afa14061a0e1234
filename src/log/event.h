/*
 * event.h
 *		The columns of an event: in the log, and as readers are given it.
 */
#ifndef ES_EVENT_H
#define ES_EVENT_H

#include "postgres.h"

#include "core/catalog.h"
#include "core/lookup.h"
#include "executor/tuptable.h"

/* Columns of eventstore.event_log */
#define ES_LOG_COL_POSITION			1
#define ES_LOG_COL_STREAM_KEY		2
#define ES_LOG_COL_VERSION			3
#define ES_LOG_COL_CREATED_AT		4
#define ES_LOG_COL_TYPE_KEY			5
#define ES_LOG_COL_EVENT_ID			6
#define ES_LOG_COL_STREAM			7
#define ES_LOG_COL_DATA				8
#define ES_LOG_COL_METADATA			9
#define ES_LOG_COL_TAGS				10
#define ES_LOG_COL_PAYLOAD			11
#define ES_LOG_COLS					11

/* Columns of the type es_event */
#define ES_EVENT_COL_POSITION		1
#define ES_EVENT_COL_STREAM			2
#define ES_EVENT_COL_VERSION		3
#define ES_EVENT_COL_TYPE			4
#define ES_EVENT_COL_SCHEMA_VERSION	5
#define ES_EVENT_COL_DATA			6
#define ES_EVENT_COL_METADATA		7
#define ES_EVENT_COL_TAGS			8
#define ES_EVENT_COL_EVENT_ID		9
#define ES_EVENT_COL_CREATED_AT		10
#define ES_EVENT_COL_CONTENT_TYPE	11
#define ES_EVENT_COL_PAYLOAD		12
#define ES_EVENT_COLS				12

/* A column of event_log that is a number or a time, and never null. */
static inline int64
es_log_number(TupleTableSlot *event, int column)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(event, column, &isnull));
}

/* The name of an event's stream; valid as long as the slot keeps its row. */
static inline EsName
es_log_stream(TupleTableSlot *event)
{
	bool		isnull;

	return es_name_from_text(slot_getattr(event, ES_LOG_COL_STREAM, &isnull));
}

/* The payload of an event of the log; 0: it has none. */
static inline Datum
es_log_payload(TupleTableSlot *event)
{
	bool		isnull;
	Datum		payload = slot_getattr(event, ES_LOG_COL_PAYLOAD, &isnull);

	return isnull ? 0 : payload;
}

/* To look events up by their positions. */
static inline EsLookup *
es_log_lookup(const EsCatalog *cat, Snapshot snapshot)
{
	return es_lookup_open(cat->event_log, &cat->event_log_position, snapshot);
}

/* The key of the stream of the event at a position; 0: there is no such event. */
static inline int64
es_log_stream_at(EsLookup *events, int64 position)
{
	TupleTableSlot *event = es_lookup_number(events, position);

	return event == NULL ? 0 : es_log_number(event, ES_LOG_COL_STREAM_KEY);
}

#endif							/* ES_EVENT_H */
