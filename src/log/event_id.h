/*
 * event_id.h
 *		The id of an event: stored with it, or derived from its position.
 *
 * Format 1.  Where event_id is null in the log, the id of the event is the UUID of version 7
 * (core/uuid7.c) of created_at and of permute(position) under the store's secret
 * (core/permutation.c, log/secret.c).  All times from 1970 to 10889 fit; an event of another
 * time has its id stored, as one has whose id the client gave.
 *
 * Examples: the two numbers of the secret, position, created_at, id.
 *
 *	1, 2	1	2026-01-02 03:04:05.678901+00	019b7ca9-8f2e-7e6a-a381-4e480a348d54
 *	1, 2	2	2026-01-02 03:04:05.678901+00	019b7ca9-8f2e-7e6a-bee6-dd915fdbcfc4
 *	1, 2	4611686018427387903	2026-01-02 03:04:05.678901+00	019b7ca9-8f2e-7e6a-a158-b755a064b849
 *	9223372036854775807, 9223372036854775807	4294967296	1970-01-01 00:00:00+00	00000000-0000-7000-8af2-791d01608028
 *	1234567890123456789, 987654321987654321	57451	1999-12-31 23:59:59.999999+00	00dc6acf-abff-7ffb-b087-ad5da9a4afa4
 */
#ifndef ES_EVENT_ID_H
#define ES_EVENT_ID_H

#include "core/catalog.h"
#include "core/permutation.h"
#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

/* To derive the ids of many events, one after the other; zero but for the secret. */
typedef struct EsIdSeries
{
	EsSecret	secret;
	int64		last;			/* position of the last one */
	int64		first;			/* of what was permuted ahead; 0: nothing was */
	uint64		ahead[ES_PERMUTE_RUN];
} EsIdSeries;

/* To look events up by their ids. */
typedef struct EsIdLookup EsIdLookup;

extern void es_event_id_derive(const EsSecret *secret, int64 position, TimestampTz created_at, pg_uuid_t *id);
extern void es_event_id_next(EsIdSeries *series, int64 position, TimestampTz created_at, pg_uuid_t *id);
extern void es_event_id_of(const EsCatalog *cat, TupleTableSlot *event, pg_uuid_t *id);

extern EsIdLookup *es_id_lookup_open(const EsCatalog *cat, Relation log, Snapshot snapshot);
extern TupleTableSlot *es_id_lookup(EsIdLookup *lookup, const pg_uuid_t *id);
extern void es_id_lookup_await(EsIdLookup *lookup, const pg_uuid_t *id);
extern void es_id_lookup_close(EsIdLookup *lookup);

#endif							/* ES_EVENT_ID_H */
