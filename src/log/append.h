/*
 * append.h
 *		A call that appends events, from its arguments to its result.
 */
#ifndef ES_APPEND_H
#define ES_APPEND_H

#include "eventstore.h"
#include "executor/tuptable.h"
#include "core/catalog.h"
#include "log/condition.h"
#include "log/stream.h"
#include "utils/jsonb.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Columns of eventstore.event_log */
#define ES_LOG_COL_POSITION		1
#define ES_LOG_COL_STREAM_KEY	2
#define ES_LOG_COL_VERSION		3
#define ES_LOG_COL_CREATED_AT	4
#define ES_LOG_COL_TYPE_KEY		5
#define ES_LOG_COL_EVENT_ID		6
#define ES_LOG_COL_DATA			7
#define ES_LOG_COL_METADATA		8
#define ES_LOG_COL_TAGS			9
#define ES_LOG_COLS				9

/* A column of event_log that is a number or a time, and never null. */
static inline int64
es_log_number(TupleTableSlot *event, int column)
{
	bool		isnull;

	return DatumGetInt64(slot_getattr(event, column, &isnull));
}

/* An event of the call.  Datums 0: NULL. */
typedef struct EsEvent
{
	int			stream;			/* index in the call's streams */
	int			next;			/* the stream's next event; -1: none */
	EsName		type;
	int32		schema_version;
	Datum		data;			/* jsonb */
	Datum		metadata;		/* jsonb */
	Datum		tags;			/* text[] */
	pg_uuid_t	id;
	bool		expects;		/* is there an expected version? */
	int64		expected_version;
	TimestampTz created_at;		/* 0: now */

	/* decided under the stream's lock */
	int64		type_key;
	int64		version;
	int64		position;
} EsEvent;

/* A stream of the call, as the call changes it. */
typedef struct EsAppendStream
{
	EsStream	head;
	int			first;			/* its first event in the call; -1: none */
	int			last;
	int64		version;		/* after the events so far */
	int64		position;		/* of the last event */
} EsAppendStream;

typedef struct EsAppend
{
	const char *function;		/* for messages */
	int			nstreams;
	EsAppendStream *streams;	/* in the order they first appear */
	int			nevents;
	EsEvent    *events;			/* in the caller's order */
	Jsonb	   *metadata;		/* the setting's, under the events' own */
	bool		has_ids;		/* the caller gave event ids */
	bool		expects;		/* no events, but an expected version */
	int64		expected_version;
	const EsCondition *condition;	/* NULL: none */

	bool		duplicate;		/* the result: stored before */
} EsAppend;

/* append.c */
extern void es_append_execute(EsAppend *call);
extern void es_change_begin(const char *function);

/* idempotency.c */
extern bool es_idempotency_is_duplicate(EsAppend *call, const EsCatalog *cat, Relation log);
extern void es_idempotency_resolve(Relation log, Relation id_index,
								   const EsEvent *event, ItemPointer own_tid);

/* writer.c */
extern void es_writer_store(const EsAppend *call, const EsCatalog *cat, Relation log);

/* guard.c */
extern Oid	es_guard_function(Relation log);

#endif							/* ES_APPEND_H */
