/*
 * guard.h
 *		What keeps the log append-only.
 */
#ifndef ES_GUARD_H
#define ES_GUARD_H

#include "postgres.h"
#include "utils/relcache.h"

extern Oid	es_guard_function(Relation log);
extern void es_guard_init(void);

#endif							/* ES_GUARD_H */
