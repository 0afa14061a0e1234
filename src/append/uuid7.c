/*
 * uuid7.c
 *		Event ids made by the server: UUID version 7 (RFC 9562).
 *
 * 48 bits of milliseconds, 12 bits of the fraction of a millisecond (RFC 9562,
 * 6.2, method 3), 62 random bits.  Within one backend the 60 bits of time rise
 * strictly, also when the clock stands still or goes back: so the ids of one
 * call are in order, and inserts go to the right edge of the id index.
 * Uniqueness rests on the random bits; the unique index has the last word.
 */
#include "postgres.h"

#include "utils/timestamp.h"

#include "append/uuid7.h"

/* Microseconds from the Unix epoch to PostgreSQL's, 2000-01-01. */
#define EPOCH_DIFFERENCE_US \
	((int64) (POSTGRES_EPOCH_JDATE - UNIX_EPOCH_JDATE) * USECS_PER_DAY)

/* The last 60 bits of time handed out here: milliseconds << 12 | fraction. */
static uint64 last_ticks = 0;

/* Random numbers in store: asking for many at once costs little more than one. */
static uint64 random_store[64];
static int	random_left = 0;

static uint64
next_random(void)
{
	if (random_left == 0)
	{
		if (!pg_strong_random(random_store, sizeof(random_store)))
			ereport(ERROR,
					(errcode(ERRCODE_INTERNAL_ERROR),
					 errmsg("could not generate random values")));
		random_left = lengthof(random_store);
	}
	return random_store[--random_left];
}

static void
put_bytes(unsigned char *to, uint64 value, int n)
{
	for (int i = 0; i < n; i++)
		to[i] = (unsigned char) (value >> (8 * (n - 1 - i)));
}

/*
 * Make n ids, rising.  "now" is the time to put into them.
 */
void
es_uuid7_generate(pg_uuid_t *ids, int n, TimestampTz now)
{
	int64		us = Max(now + EPOCH_DIFFERENCE_US, 0);
	uint64		ticks = ((uint64) (us / 1000) << 12) | (uint64) ((us % 1000) * 4096 / 1000);

	for (int i = 0; i < n; i++)
	{
		unsigned char *id = ids[i].data;

		last_ticks = Max(ticks, last_ticks + 1);
		put_bytes(id, last_ticks >> 12, 6);
		put_bytes(id + 6, 0x7000 | (last_ticks & 0xfff), 2);
		put_bytes(id + 8, (next_random() >> 2) | (UINT64CONST(2) << 62), 8);
	}
}
