/*
 * scavenge.h
 *		Removing the events that truncation, deletion and retention hide.
 */
#ifndef ES_SCAVENGE_H
#define ES_SCAVENGE_H

#include "core/catalog.h"
#include "core/name.h"

/* A pass over what is hidden, in steps. */
typedef struct EsScavenge EsScavenge;

extern EsScavenge *es_scavenge_begin(MemoryContext context);
extern bool es_scavenge_step(EsScavenge *scavenge, const EsCatalog *cat, int max_events, int64 *removed);
extern void es_scavenge_end(EsScavenge *scavenge);
extern bool es_scavenge_is_wanted(void);
extern bool es_scavenge_lock(const EsCatalog *cat, bool wait);
extern int64 es_scavenge_gone(const EsName *categories, int ncategories);

#endif							/* ES_SCAVENGE_H */
