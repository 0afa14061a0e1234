/*
 * removed.h
 *		The ids of events that were taken away and removed.
 */
#ifndef ES_REMOVED_H
#define ES_REMOVED_H

#include "core/catalog.h"
#include "core/lookup.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* What is remembered of an event. */
typedef struct EsRemoved
{
	int64		stream_key;
	int64		version;
	int64		position;
	int64		type_key;
	bytea	   *digest;			/* of its data */
	bytea	   *payload_digest; /* NULL: it had none */
} EsRemoved;

/* The open table, to add to. */
typedef struct EsRemovals EsRemovals;

extern EsRemovals *es_removals_open(const EsCatalog *cat);
extern void es_removals_add(EsRemovals *removals, TupleTableSlot *event, TimestampTz taken_at);
extern void es_removals_close(EsRemovals *removals);

extern bool es_removed_is_forgotten(TimestampTz taken_at);
extern EsLookup *es_removed_lookup(const EsCatalog *cat, Snapshot snapshot);
extern bool es_removed_find(EsLookup *lookup, const pg_uuid_t *id, EsRemoved *found);
extern int64 es_removed_forget(int max);
extern bool es_removed_are_due(void);
extern TimestampTz es_removed_next_at(void);

#endif							/* ES_REMOVED_H */
