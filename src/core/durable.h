/*
 * durable.h
 *		A number that survives a crash and does not wait for commit.
 */
#ifndef ES_DURABLE_H
#define ES_DURABLE_H

#include "postgres.h"
#include "access/xlogdefs.h"
#include "utils/relcache.h"

extern Relation es_durable_open(Oid relid, bool write);
extern bool es_durable_read(Relation rel, int64 *value);
extern void es_durable_write(Relation rel, int64 value);

#endif							/* ES_DURABLE_H */
