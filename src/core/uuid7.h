/*
 * uuid7.h
 *		UUIDs of version 7 (RFC 9562): a time, and 62 bits beside it.
 */
#ifndef ES_UUID7_H
#define ES_UUID7_H

#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* Beside the time stand this many bits. */
#define ES_UUID7_BITS	62

extern bool es_uuid7_has_time(TimestampTz at);
extern void es_uuid7_make(pg_uuid_t *id, TimestampTz at, uint64 bits);
extern void es_uuid7_make_random(pg_uuid_t *id);
extern bool es_uuid7_read(const pg_uuid_t *id, uint64 *bits);

#endif							/* ES_UUID7_H */
