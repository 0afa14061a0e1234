/*
 * uuid7.c
 *		UUIDs of version 7 (RFC 9562): a time, and 62 bits beside it.
 *
 * From the left: 48 bits of milliseconds since 1970, the version in 4 bits, 12 bits of the
 * fraction of the millisecond (RFC 9562, 6.2, method 3), the variant in 2 bits, 62 bits of
 * the caller's.
 *
 * Invariant: a time and bits make one id, the same on every machine.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "port/pg_bswap.h"
#include "utils/timestamp.h"

#include "core/uuid7.h"

/* Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01. */
#define EPOCH_DIFFERENCE_US \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

#define GREATEST_MILLISECOND	((UINT64CONST(1) << 48) - 1)
#define LOW_BITS				((UINT64CONST(1) << ES_UUID7_BITS) - 1)

/* Does the time fit: from 1970 to the year 10889? */
bool
es_uuid7_has_time(TimestampTz at)
{
	return at >= -EPOCH_DIFFERENCE_US &&
		((uint64) at + (uint64) EPOCH_DIFFERENCE_US) / 1000 <= GREATEST_MILLISECOND;
}

/* The id of a time that fits and of 62 bits. */
void
es_uuid7_make(pg_uuid_t *id, TimestampTz at, uint64 bits)
{
	uint64		us = (uint64) at + (uint64) EPOCH_DIFFERENCE_US;

	uint64		high = pg_hton64(us / 1000 << 16 | 0x7000 | us % 1000 * 4096 / 1000);
	uint64		low = pg_hton64(UINT64CONST(2) << ES_UUID7_BITS | bits);

	memcpy(id->data, &high, sizeof(high));
	memcpy(id->data + sizeof(high), &low, sizeof(low));
}

/* An id of this moment, with random bits. */
void
es_uuid7_make_random(pg_uuid_t *id)
{
	uint64		random;

	if (!pg_strong_random(&random, sizeof(random)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	es_uuid7_make(id, GetCurrentTimestamp(), random & LOW_BITS);
}

/* The 62 bits of an id; false: it is not of version 7. */
bool
es_uuid7_read(const pg_uuid_t *id, uint64 *bits)
{
	const unsigned char *bytes = id->data;

	if (bytes[6] >> 4 != 7 || bytes[8] >> 6 != 2)
		return false;
	*bits = bytes[8] & 0x3f;
	for (int i = 9; i < UUID_LEN; i++)
		*bits = *bits << 8 | bytes[i];
	return true;
}
