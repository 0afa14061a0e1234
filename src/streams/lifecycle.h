/*
 * lifecycle.h
 *		Taking events away: statements about a stream.
 */
#ifndef ES_LIFECYCLE_H
#define ES_LIFECYCLE_H

#include "eventstore.h"
#include "core/catalog.h"
#include "log/stream.h"

/* A stream that is held for a statement about it. */
typedef struct EsHeldStream
{
	const EsCatalog *cat;
	EsStreams  *streams;
	EsStream	stream;
	int64		version;
} EsHeldStream;

extern const EsCatalog *es_lifecycle_begin(const char *function);
extern void es_lifecycle_hold(EsHeldStream *held, const char *function, EsName name);

/* scavenge.c: a pass over what is hidden, in steps. */
typedef struct EsScavenge EsScavenge;

extern EsScavenge *es_scavenge_begin(MemoryContext context);
extern bool es_scavenge_step(EsScavenge *scavenge, const EsCatalog *cat, int max_events, int64 *removed);
extern void es_scavenge_end(EsScavenge *scavenge);
extern bool es_scavenge_is_wanted(void);
extern bool es_scavenge_lock(const EsCatalog *cat, bool wait);
extern int64 es_scavenge_gone(const EsName *categories, int ncategories);

#endif							/* ES_LIFECYCLE_H */
