/*
 * cursor.h
 *		Events in order, from one index range or merged from many.
 */
#ifndef ES_CURSOR_H
#define ES_CURSOR_H

#include "core/catalog.h"
#include "executor/tuptable.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A range of events: after < place <= upto, forwards or backwards. */
typedef struct EsRange
{
	int64		after;
	int64		upto;
	bool		backwards;
} EsRange;

typedef struct EsCursor EsCursor;

extern EsCursor *es_cursor_open_log(const EsCatalog *cat, Snapshot snapshot, EsRange positions);
extern EsCursor *es_cursor_open_types(const EsCatalog *cat, Snapshot snapshot, EsRange positions,
									  const int64 *type_keys, int n);
extern EsCursor *es_cursor_open_stream(const EsCatalog *cat, Snapshot snapshot, EsRange versions,
									   int64 stream_key);
extern EsCursor *es_cursor_open_correlation(const EsCatalog *cat, Snapshot snapshot,
											EsRange positions, int64 correlation_hash);
extern TupleTableSlot *es_cursor_next(EsCursor *cursor);
extern void es_cursor_close(EsCursor *cursor);

#endif							/* ES_CURSOR_H */
