/*
 * stream.h
 *		The row of a stream, whose lock orders its writers.
 */
#ifndef ES_STREAM_H
#define ES_STREAM_H

#include "core/catalog.h"
#include "core/name.h"
#include "storage/lockdefs.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Columns of eventstore.stream */
#define ES_STREAM_COL_KEY		1
#define ES_STREAM_COL_NAME		2
#define ES_STREAM_COL_FIRST		3
#define ES_STREAM_COL_USED		4
#define ES_STREAM_COL_DELETED	5
#define ES_STREAM_COL_TOMBSTONED	6
#define ES_STREAM_COLS			6

typedef struct EsStream
{
	EsName		name;
	int64		key;			/* 0: there is no such stream */
	int64		first_version;	/* earlier events are gone */
	int64		used_version;	/* the version is no less, whatever events there are */
	bool		deleted;		/* when it was at used_version */
	bool		tombstoned;
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
extern bool es_stream_try_lock(EsStreams *streams, EsStream *stream);
extern void es_stream_update(EsStreams *streams, const EsStream *stream);

extern void es_stream_refuse_tombstoned(const EsStream *stream);

extern int	es_streams_of_category(const EsCatalog *cat, Snapshot snapshot, EsName category,
								   int64 *keys, int max);

#endif							/* ES_STREAM_H */
