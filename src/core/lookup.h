/*
 * lookup.h
 *		Single rows of a table by an index of the store.
 */
#ifndef ES_LOOKUP_H
#define ES_LOOKUP_H

#include "postgres.h"

#include "access/genam.h"
#include "core/name.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"
#include "utils/uuid.h"

typedef struct EsLookup
{
	Relation	rel;
	Relation	index;
	IndexScanDesc scan;
	TupleTableSlot *row;		/* what was found last */
} EsLookup;

extern EsLookup *es_lookup_open(Oid table, const Oid *index, Snapshot snapshot);
extern EsLookup *es_lookup_open_unless_empty(Oid table, const Oid *index, Snapshot snapshot);
extern TupleTableSlot *es_lookup_number(EsLookup *lookup, int64 key);
extern TupleTableSlot *es_lookup_name(EsLookup *lookup, EsName key);
extern TupleTableSlot *es_lookup_uuid(EsLookup *lookup, const pg_uuid_t *key);
extern TupleTableSlot *es_lookup_next(EsLookup *lookup);
extern void es_lookup_close(EsLookup *lookup);

#endif							/* ES_LOOKUP_H */
