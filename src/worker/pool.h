/*
 * pool.h
 *		The workers that run projections: how many there are, and who they are.
 */
#ifndef ES_POOL_H
#define ES_POOL_H

#include "log/registry.h"

extern void es_pool_init(void);
extern EsShortage es_pool_serve(int due);
extern void es_pool_stir(void);
extern bool es_pool_enter(int number, Oid dboid);
extern void es_pool_set_idle(bool idle);
extern bool es_pool_is_wanted_elsewhere(bool idle);
extern bool es_pool_may_leave(void);
extern int	es_pool_end(Oid dboid);

#endif							/* ES_POOL_H */
