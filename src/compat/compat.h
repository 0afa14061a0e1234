/*
 * compat.h
 *		The differences between the server versions that the store supports.
 *		The only file that mentions PG_VERSION_NUM.
 */
#ifndef ES_COMPAT_H
#define ES_COMPAT_H

#include "postgres.h"
#include "storage/backendid.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "catalog/pg_class.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "eventstore supports PostgreSQL 15"
#endif

/*
 * A number below MaxBackends that this process alone has: the index of its
 * slot in the registry.
 */
#define es_compat_my_slot()			(MyBackendId - 1)

/* Does the current user own the relation, or may act as its owner? */
#define es_compat_owns_relation(relid) \
	pg_class_ownercheck((relid), GetUserId())

#endif							/* ES_COMPAT_H */
