/*
 * visible.h
 *		Which events of the log readers are shown.
 */
#ifndef ES_VISIBLE_H
#define ES_VISIBLE_H

#include "datatype/timestamp.h"
#include "executor/tuptable.h"
#include "log/stream.h"

/* What is shown of a stream: events from a version on, not older than a moment. */
typedef struct EsShown
{
	int64		first_version;
	TimestampTz since;
} EsShown;

typedef struct EsVisible EsVisible;

extern EsVisible *es_visible_open(const EsCatalog *cat, Snapshot snapshot);
extern void es_visible_close(EsVisible *visible);
extern bool es_visible_shows(EsVisible *visible, TupleTableSlot *event);
extern void es_visible_look_at(const EsCatalog *cat, const int64 *positions, int n, bool *shown);
extern EsShown es_visible_ask(EsVisible *visible, const EsStream *stream);
extern bool es_visible_version_matches(const EsCatalog *cat, const EsStream *stream,
									   int64 expected, int64 actual);
extern EsShown es_visible_of_stream(const EsCatalog *cat, Snapshot snapshot,
									const EsStream *stream);

#endif							/* ES_VISIBLE_H */
