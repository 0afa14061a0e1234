/*
 * tags.h
 *		Where the events of a tag are.
 */
#ifndef ES_TAGS_H
#define ES_TAGS_H

#include "core/catalog.h"
#include "core/name.h"
#include "utils/relcache.h"
#include "utils/snapshot.h"

/* Columns of eventstore.event_tag */
#define ES_TAG_COL_TAG			1
#define ES_TAG_COL_POSITION		2
#define ES_TAG_COLS				2

extern int64 es_tag_hash(EsName tag);
extern int64 *es_tags_check(const Datum *values, const bool *nulls, int n, int *nhashes);
extern void es_tags_remove(const EsCatalog *cat, Snapshot snapshot, Datum tags, int64 position);

/* The positions of a tag, rising or, backwards, falling. */
typedef struct EsTagScan EsTagScan;

extern EsTagScan *es_tag_scan_open(const EsCatalog *cat, Snapshot snapshot, int64 tag, bool backwards);
extern void es_tag_scan_seek(EsTagScan *scan, int64 position);
extern bool es_tag_scan_next(EsTagScan *scan, int64 *position);
extern void es_tag_scan_close(EsTagScan *scan);

#endif							/* ES_TAGS_H */
