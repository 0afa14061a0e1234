/*
 * head.h
 *		The head: how far the log can be read.
 */
#ifndef ES_HEAD_H
#define ES_HEAD_H

#include "core/catalog.h"
#include "datatype/timestamp.h"
#include "utils/snapshot.h"

extern int64 es_head_read(const EsCatalog *cat, Snapshot *snapshot);
extern int64 es_head_glance(const EsCatalog *cat);
extern int64 es_head_handed_out(const EsCatalog *cat);
extern void es_head_refuse_ahead(const EsCatalog *cat, int64 position);
extern void es_head_wait(const EsCatalog *cat, int64 beyond, TimestampTz deadline);
extern void es_head_refuse_own(int64 up_to);

#endif							/* ES_HEAD_H */
