/*
 * stream.h
 *		The row of a stream, whose lock orders its writers, and its version.
 */
#ifndef ES_STREAM_H
#define ES_STREAM_H

#include "eventstore.h"
#include "core/catalog.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Columns of eventstore.stream */
#define ES_STREAM_COL_KEY		1
#define ES_STREAM_COL_NAME		2
#define ES_STREAM_COLS			2

typedef struct EsStream
{
	EsName		name;
	int64		key;			/* 0: there is no such stream */
	bool		created;		/* by this call */
	bool		unseen;			/* locked, but made by somebody else since the
								 * transaction's snapshot */
} EsStream;

/* The open table, for one call. */
typedef struct EsStreams EsStreams;

extern EsStreams *es_streams_open(const EsCatalog *cat, LOCKMODE lockmode, Snapshot snapshot);
extern void es_streams_close(EsStreams *streams);
extern bool es_stream_find(EsStreams *streams, EsStream *stream);
extern void es_stream_lock(EsStreams *streams, EsStream *stream);

extern int	es_streams_of_category(const EsCatalog *cat, Snapshot snapshot, EsName category,
								   int64 *keys, int max);

/* Looking up versions in the log. */
typedef struct EsVersions EsVersions;

extern EsVersions *es_versions_open(const EsCatalog *cat, Relation log, LOCKMODE lockmode, Snapshot snapshot);
extern void es_versions_close(EsVersions *versions);
extern int64 es_version_of(EsVersions *versions, int64 stream_key);
extern bool es_version_is_seen(EsVersions *versions, Snapshot snapshot);

#endif							/* ES_STREAM_H */
