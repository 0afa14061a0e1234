/*
 * owner.h
 *		The owner of a projection.
 */
#ifndef ES_OWNER_H
#define ES_OWNER_H

#include "projections/definition.h"

extern void es_owner_create(const EsCatalog *cat, int id, const char *name, Oid owner);
extern void es_owner_record(int id, Oid owner);
extern void es_owner_set(const EsCatalog *cat, const EsProjection *projection, Oid owner);
extern const EsProjection *es_owner_confirm(const EsCatalog *cat, const EsProjection *projection);
extern void es_owner_warn_of_foreign(const char *name, const EsCarrier *carrier, const char *then);

#endif							/* ES_OWNER_H */
