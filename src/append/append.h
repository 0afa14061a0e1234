/*
 * append.h
 *		A call that appends events, as it travels through this room.
 */
#ifndef ES_APPEND_H
#define ES_APPEND_H

#include "datatype/timestamp.h"
#include "log/stream.h"
#include "read/query.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

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
	int64	   *tag_hashes;		/* of the tags, rising, each once */
	int			ntags;			/* number of hashes */
	Datum		payload;		/* bytea */
	EsName		content_type;	/* of the payload; .len 0: none */
	pg_uuid_t	id;				/* unless derived */
	bool		has_derived_id; /* none is stored (log/event_id.c) */
	bool		expects;		/* is there an expected version? */
	int64		expected_version;
	bool		has_created_at; /* it was given; else it is now */
	TimestampTz created_at;
	int64		row;			/* which row it was, from 1; 0: it was none */

	/* decided under the stream's lock */
	int64		type_key;
	int64		version;
	int64		position;
} EsEvent;

/* A stream of the call, as the call changes it. */
typedef struct EsAppendStream
{
	EsStream	head;
	text	   *name;			/* the same, as it is stored with each event */
	EsName		category;
	int			first;			/* its first event in the call; -1: none */
	int			last;
	int64		version;		/* after the events so far */
	int64		position;		/* of the last event */
} EsAppendStream;

/* Matching events beyond "after" fail the append. */
typedef struct EsCondition
{
	const EsQuery *query;
	int64		after;
} EsCondition;

typedef struct EsAppend
{
	const char *function;		/* for messages */
	int			nstreams;
	EsAppendStream *streams;	/* in the order they first appear */
	int			nevents;
	EsEvent    *events;			/* in the caller's order */
	Jsonb	   *metadata;		/* the setting's, under the events' own */
	bool		has_ids;		/* the caller gave event ids */
	bool		separate;		/* each event counts as a call of its own */
	bool		expects;		/* no events, but an expected version */
	int64		expected_version;
	const EsCondition *condition;	/* NULL: none */

	bool		duplicate;		/* the result: stored before */
	const EsEvent *current;		/* which event is being dealt with, for messages;
								 * NULL: none in particular */
} EsAppend;

/* Does any event of the call bear tags? */
static inline bool
es_append_bears_tags(const EsAppend *call)
{
	for (int i = 0; i < call->nevents; i++)
	{
		if (call->events[i].ntags > 0)
			return true;
	}
	return false;
}

#endif							/* ES_APPEND_H */
