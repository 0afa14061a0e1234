/*
 * stream.h
 *		The head row of a stream: its lock orders the writers, its version is
 *		the truth.
 */
#ifndef ES_STREAM_H
#define ES_STREAM_H

#include "eventstore.h"
#include "core/catalog.h"
#include "utils/snapshot.h"

/* Columns of eventstore.stream */
#define ES_STREAM_COL_KEY		1
#define ES_STREAM_COL_NAME		2
#define ES_STREAM_COL_VERSION	3

typedef struct EsStream
{
	EsName		name;
	bool		exists;			/* a head row was found */
	int64		key;
	int64		version;		/* of its last event; 0: none */
} EsStream;

/* The open table, for one call. */
typedef struct EsStreams EsStreams;

extern EsStreams *es_streams_open(const EsCatalog *cat, bool write);
extern void es_streams_close(EsStreams *streams);
extern Snapshot es_streams_look(EsStreams *streams, Snapshot snapshot);
extern bool es_stream_find(EsStreams *streams, EsStream *stream);
extern bool es_stream_settled(EsStreams *streams, EsStream *stream);
extern bool es_stream_claim(EsStreams *streams, EsStream *stream, int64 new_version);
extern bool es_stream_changed_after_snapshot(EsStreams *streams, const EsStream *stream);

#endif							/* ES_STREAM_H */
