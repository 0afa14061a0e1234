/*
 * upcast.h
 *		Showing events of an old shape in a newer one.
 */
#ifndef ES_UPCAST_H
#define ES_UPCAST_H

#include "streams/upcaster.h"

extern void es_upcast_event(EsUpcasts *upcasts, Datum *values, bool *isnull);
extern TupleTableSlot *es_upcast_slot(EsUpcasts *upcasts, TupleTableSlot *event);
extern bool es_upcast_is_for(const EsUpcasts *upcasts, EsName type, int32 schema_version);
extern bool es_upcast_passes(const EsUpcasts *upcasts, EsName type, int32 schema_version,
							 const EsName *wanted, int n);
extern EsName *es_upcast_sources(const EsUpcasts *upcasts, int *n);

#endif							/* ES_UPCAST_H */
