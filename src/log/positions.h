/*
 * positions.h
 *		Positions and stream keys that are never handed out twice.
 */
#ifndef ES_POSITIONS_H
#define ES_POSITIONS_H

#include "log/registry.h"

extern EsDatabase *es_positions_attach(const EsCatalog *cat);
extern int64 es_positions_draw(EsDatabase *db, const EsCatalog *cat, int64 n);
extern int64 es_stream_keys_draw(EsDatabase *db, const EsCatalog *cat);
extern void es_positions_raise(EsDatabase *db, const EsCatalog *cat,
							   int64 next_position, int64 next_stream_key);
extern void es_timeline_settle(EsDatabase *db, const EsCatalog *cat);
extern uint64 es_timeline_history(const EsCatalog *cat);

#endif							/* ES_POSITIONS_H */
