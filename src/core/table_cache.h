/*
 * table_cache.h
 *		A small table, of which each backend keeps a copy.
 */
#ifndef ES_TABLE_CACHE_H
#define ES_TABLE_CACHE_H

#include "postgres.h"

#include "access/tableam.h"
#include "utils/relcache.h"

/* What the rows of a table have been read into. */
typedef struct EsCachedTable EsCachedTable;

typedef struct EsTableCache
{
	const char *name;			/* of its memory */
	/* reads the rows of a scan, into the current memory context */
	void	   *(*read) (TableScanDesc scan, TupleTableSlot *slot);

	/* private */
	EsCachedTable *current;		/* NULL: not read yet */
	bool		valid;
	Oid			table;			/* which was read */
	uint64		invalidations;
} EsTableCache;

extern void es_table_cache_init(EsTableCache *cache);
extern void *es_table_cache_rows(EsTableCache *cache, Oid table);
extern void *es_table_cache_rows_anew(EsTableCache *cache, Oid table);
extern void es_table_cache_pin(EsTableCache *cache);

#endif							/* ES_TABLE_CACHE_H */
