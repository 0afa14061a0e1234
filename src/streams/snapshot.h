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

/* Which states may be begun with. */
typedef struct EsSnapshotLimit
{
	int64		first_version;	/* of the stream's events that are shown */
	int64		last_version;
	TimestampTz saved_at;		/* not later */
} EsSnapshotLimit;

extern EsSnapshot es_snapshot_find(const EsStream *stream, const char *kind, EsSnapshotLimit limit);

#endif							/* ES_SNAPSHOT_H */
