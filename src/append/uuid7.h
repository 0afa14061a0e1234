/*
 * uuid7.h
 *		Event ids made by the server.
 */
#ifndef ES_UUID7_H
#define ES_UUID7_H

#include "postgres.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

extern void es_uuid7_generate(pg_uuid_t *ids, int n, TimestampTz now);

#endif							/* ES_UUID7_H */
