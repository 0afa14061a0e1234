/*
 * snapshot.h
 *		The states of streams that were kept.
 */
#ifndef ES_SNAPSHOT_H
#define ES_SNAPSHOT_H

#include "log/stream.h"
#include "datatype/timestamp.h"

typedef struct EsSnapshot
{
	int64		version;		/* 0: there is none */
	Datum		state;			/* jsonb */
} EsSnapshot;

/* The latest state that may be begun with. */
typedef struct EsSnapshotLimit
{
	int64		version;
	TimestampTz saved_at;
} EsSnapshotLimit;

extern EsSnapshot es_snapshot_find(const EsStream *stream, const char *kind, EsSnapshotLimit limit);

#endif							/* ES_SNAPSHOT_H */
