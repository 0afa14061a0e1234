/*
 * snapshot.h
 *		Snapshots, saved states of streams.
 */
#ifndef ES_SNAPSHOT_H
#define ES_SNAPSHOT_H

#include "datatype/timestamp.h"
#include "fmgr.h"
#include "log/stream.h"

/* A snapshot, as it was saved. */
typedef struct EsKept
{
	int64		version;		/* 0: there is none */
	Datum		state;			/* jsonb */
	bytea	   *made_by;		/* digest of the reducer that its kind named; NULL: none */
} EsKept;

/* The latest snapshot that the caller may begin with. */
typedef struct EsKeptLimit
{
	int64		version;
	TimestampTz saved_at;
} EsKeptLimit;

extern char *es_snapshot_kind(FunctionCallInfo fcinfo, int argno);
extern EsKept es_snapshot_find(const EsStream *stream, const char *kind, EsKeptLimit limit);

#endif							/* ES_SNAPSHOT_H */
