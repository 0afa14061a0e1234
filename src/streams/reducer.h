/*
 * reducer.h
 *		Which definition of a reducer a snapshot was made by.
 */
#ifndef ES_REDUCER_H
#define ES_REDUCER_H

#include "core/catalog.h"

extern bytea *es_reducer_digest(Oid function);
extern bytea *es_reducer_digest_by_name(const EsCatalog *cat, const char *name);

#endif							/* ES_REDUCER_H */
