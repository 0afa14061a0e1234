/*
 * registry.h
 *		Which positions are in flight, and the head that follows.
 */
#ifndef ES_REGISTRY_H
#define ES_REGISTRY_H

#include "core/catalog.h"
#include "log/database.h"

/* What the seal register says once the log has seen its first append: seal.c. */
#define ES_SEALED		2
#define ES_UNSEALED		1

/* A backend with positions in flight, as eventstore.blockers shows it. */
typedef struct EsInFlight
{
	int			pid;
	int64		bound;			/* none of its positions is below */
} EsInFlight;

extern void es_registry_init(void);
extern bool es_registry_loaded(void);
extern void es_registry_require(void);
extern int64 es_registry_reserve(EsDatabase *db, int64 n);
extern int64 es_registry_glance(EsDatabase *db);
extern int64 es_registry_head(EsDatabase *db);
extern int64 es_registry_own_first(void);
extern EsInFlight *es_registry_list(int *n);

#endif							/* ES_REGISTRY_H */
