/*
 * secret.h
 *		The secret that the ids of events are derived with.
 */
#ifndef ES_SECRET_H
#define ES_SECRET_H

#include "core/catalog.h"
#include "core/permutation.h"

extern EsSecret es_secret_read(const EsCatalog *cat);
extern void es_secret_settle(const EsCatalog *cat, bool needed);
extern const char *es_secret_problem(const EsCatalog *cat);

#endif							/* ES_SECRET_H */
