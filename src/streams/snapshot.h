/*
 * snapshot.h
 *		The states of streams that were kept.
 */
#ifndef ES_SNAPSHOT_H
#define ES_SNAPSHOT_H

#include "log/stream.h"
#include "datatype/timestamp.h"
#include "projections/batch.h"

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

extern int64 es_snapshot_stream(const EsCatalog *cat, Snapshot snapshot, EsStream *stream);
extern EsSnapshot es_snapshot_find(const EsStream *stream, const char *kind, EsSnapshotLimit limit);
extern EsBatch *es_snapshot_events(const EsCatalog *cat, const EsStream *stream, int64 last,
								   Snapshot snapshot, EsSnapshot *kept);

#endif							/* ES_SNAPSHOT_H */
