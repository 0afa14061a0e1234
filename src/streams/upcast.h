/*
 * upcast.h
 *		Showing events of an old shape in a newer one.
 */
#ifndef ES_UPCAST_H
#define ES_UPCAST_H

#include "eventstore.h"
#include "core/catalog.h"
#include "executor/tuptable.h"

/* The upcasters of one call, and what it needs to call them. */
typedef struct EsUpcasts EsUpcasts;

extern void es_upcast_event(EsUpcasts *upcasts, Datum *values, bool *isnull);
extern TupleTableSlot *es_upcast_slot(EsUpcasts *upcasts, TupleTableSlot *event);
extern bool es_upcast_is_for(const EsUpcasts *upcasts, EsName type, int32 schema_version);
extern bool es_upcast_gives(const EsUpcasts *upcasts, EsName type, int32 schema_version, EsName wanted);
extern EsName *es_upcast_sources(const EsUpcasts *upcasts, int *n);

extern bool es_upcast_in_progress(void);

/* upcaster.c */
extern EsUpcasts *es_upcasts_begin(const EsCatalog *cat);
extern void es_upcast_before_drop(const EsCatalog *cat, const char *function, bool cascade);

extern void es_upcast_init(void);

#endif							/* ES_UPCAST_H */
