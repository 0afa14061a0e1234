/*
 * roles.h
 *		What becomes of projections and upcasters when a role or a carrier changes.
 */
#ifndef ES_ROLES_H
#define ES_ROLES_H

#include "core/carrier.h"
#include "core/catalog.h"
#include "nodes/nodes.h"

extern void es_roles_before_statement(Node *statement);
extern void es_roles_after_statement(Node *statement);
extern void es_roles_function_created(Oid function);
extern void es_roles_function_altered(Oid function);
extern void es_roles_carrier_dropped(const EsCatalog *cat, const EsCarrier *carrier, bool by_name);

#endif							/* ES_ROLES_H */
