/*
 * lifecycle.h
 *		Taking events away: statements about a stream.
 */
#ifndef ES_LIFECYCLE_H
#define ES_LIFECYCLE_H

#include "eventstore.h"
#include "core/catalog.h"

extern const EsCatalog *es_lifecycle_begin(const char *function);

/* scavenge.c: a pass over what is hidden, in steps. */
typedef struct EsScavenge EsScavenge;

extern EsScavenge *es_scavenge_begin(MemoryContext context);
extern bool es_scavenge_step(EsScavenge *scavenge, const EsCatalog *cat, int max_events, int64 *removed);
extern void es_scavenge_end(EsScavenge *scavenge);
extern bool es_scavenge_is_wanted(void);
extern bool es_scavenge_lock(const EsCatalog *cat, bool wait);
extern int64 es_scavenge_gone(const EsName *categories, int ncategories);

#endif							/* ES_LIFECYCLE_H */
