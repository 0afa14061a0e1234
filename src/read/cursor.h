/*
 * cursor.h
 *		Events in order, from one index range or merged from many.
 */
#ifndef ES_CURSOR_H
#define ES_CURSOR_H

#include "core/catalog.h"
#include "executor/tuptable.h"
#include "nodes/pg_list.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* A range of positions or versions: beyond "after", up to "upto". */
typedef struct EsRange
{
	int64		after;
	int64		upto;
	bool		backwards;
} EsRange;

typedef struct EsCursor EsCursor;

extern EsCursor *es_cursor_open(const EsCatalog *cat, Snapshot snapshot, EsRange range,
								int max_branches, bool by_entries);
extern void es_cursor_add_log(EsCursor *cursor);
extern void es_cursor_add_type(EsCursor *cursor, int64 type_key);
extern void es_cursor_add_metadata(EsCursor *cursor, Oid index, int64 hash);
extern void es_cursor_add_versions(EsCursor *cursor, int64 stream_key);
extern void es_cursor_add_stream(EsCursor *cursor, int64 stream_key);
extern TupleTableSlot *es_cursor_next(EsCursor *cursor);
extern int64 es_cursor_place(const EsCursor *cursor);
extern List *es_cursor_indexes(const EsCursor *cursor);
extern void es_cursor_close(EsCursor *cursor);

#endif							/* ES_CURSOR_H */
