/*
 * upcaster_owner.h
 *		The owner of an upcaster.
 */
#ifndef ES_UPCASTER_OWNER_H
#define ES_UPCASTER_OWNER_H

#include "core/carrier.h"
#include "core/catalog.h"
#include "nodes/pg_list.h"

extern void es_upcaster_owner_changed(const EsCatalog *cat, const EsCarrier *carrier, bool is_new);
extern void es_upcaster_reassign(const EsCatalog *cat, List *roles, Oid to);
extern void es_upcaster_drop_owned(const EsCatalog *cat, List *roles);

#endif							/* ES_UPCASTER_OWNER_H */
