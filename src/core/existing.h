/*
 * existing.h
 *		What is said when something of that name is there already.
 */
#ifndef ES_EXISTING_H
#define ES_EXISTING_H

#include "core/name.h"
#include "nodes/pg_list.h"

extern void es_existing_differs(List **differing, bool differs, const char *name);
extern void es_existing_tell(const char *kind, EsName name, bool if_not_exists, List *differing);

#endif							/* ES_EXISTING_H */
