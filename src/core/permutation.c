/*
 * permutation.c
 *		A permutation of the numbers of 62 bits, under a secret: who does not know the secret
 *		cannot tell from what it makes of a number which number that was.
 *
 * A Feistel network of six rounds over two halves of 31 bits.  The function of a round is
 * the upper 31 bits of SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast short-input PRF",
 * 2012, with one round for the message and three to finish) of five bytes: the right half,
 * least significant byte first, and the number of the round, from 0.  Four rounds of a
 * pseudorandom function make a pseudorandom permutation (Luby and Rackoff, 1988); two more
 * make room for more numbers than 2^15.
 *
 * Invariants
 * 1. es_permute_back undoes es_permute under the same secret.
 * 2. es_permute_run makes what es_permute makes.
 * 3. No result depends on the machine: it is part of the format of the log (log/event_id.h).
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "core/permutation.h"

#define ROUNDS		6
#define HALF_BITS	31
#define HALF_MASK	((UINT64CONST(1) << HALF_BITS) - 1)

static inline uint64
rotate_left(uint64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

/* The states of several hashes at once: each waits on itself most of the time. */
typedef struct SipStates
{
	uint64		v0[ES_PERMUTE_RUN];
	uint64		v1[ES_PERMUTE_RUN];
	uint64		v2[ES_PERMUTE_RUN];
	uint64		v3[ES_PERMUTE_RUN];
} SipStates;

static pg_attribute_always_inline void
sip_round(SipStates *s, int n)
{
	for (int i = 0; i < n; i++)
	{
		s->v0[i] += s->v1[i];
		s->v1[i] = rotate_left(s->v1[i], 13) ^ s->v0[i];
		s->v0[i] = rotate_left(s->v0[i], 32);
		s->v2[i] += s->v3[i];
		s->v3[i] = rotate_left(s->v3[i], 16) ^ s->v2[i];
		s->v0[i] += s->v3[i];
		s->v3[i] = rotate_left(s->v3[i], 21) ^ s->v0[i];
		s->v2[i] += s->v1[i];
		s->v1[i] = rotate_left(s->v1[i], 17) ^ s->v2[i];
		s->v2[i] = rotate_left(s->v2[i], 32);
	}
}

/* A message is a single block, with the length in its eighth byte. */
static pg_attribute_always_inline void
sip_hash(const EsSecret *secret, const uint64 *blocks, uint64 *hashes, int n)
{
	SipStates	s;

	for (int i = 0; i < n; i++)
	{
		s.v0[i] = secret->k0 ^ UINT64CONST(0x736f6d6570736575);
		s.v1[i] = secret->k1 ^ UINT64CONST(0x646f72616e646f6d);
		s.v2[i] = secret->k0 ^ UINT64CONST(0x6c7967656e657261);
		s.v3[i] = secret->k1 ^ UINT64CONST(0x7465646279746573) ^ blocks[i];
	}
	sip_round(&s, n);
	for (int i = 0; i < n; i++)
	{
		s.v0[i] ^= blocks[i];
		s.v2[i] ^= 0xff;
	}
	sip_round(&s, n);
	sip_round(&s, n);
	sip_round(&s, n);
	for (int i = 0; i < n; i++)
		hashes[i] = s.v0[i] ^ s.v1[i] ^ s.v2[i] ^ s.v3[i];
}

/*
 * SipHash-1-3 of a message of seven bytes at most: a number that fits, its least significant
 * byte first.
 */
uint64
es_siphash(const EsSecret *secret, uint64 message, int len)
{
	uint64		block = (uint64) len << 56 | message;
	uint64		hash;

	sip_hash(secret, &block, &hash, 1);
	return hash;
}

static pg_attribute_always_inline uint64
block_of_half(int round, uint64 half)
{
	return UINT64CONST(5) << 56 | (uint64) round << 32 | half;
}

static uint64
round_of_half(const EsSecret *secret, int round, uint64 half)
{
	uint64		block = block_of_half(round, half);
	uint64		hash;

	sip_hash(secret, &block, &hash, 1);
	return hash >> (64 - HALF_BITS);
}

uint64
es_permute(const EsSecret *secret, uint64 number)
{
	uint64		left = number >> HALF_BITS;
	uint64		right = number & HALF_MASK;

	for (int i = 0; i < ROUNDS; i++)
	{
		uint64		next = left ^ round_of_half(secret, i, right);

		left = right;
		right = next;
	}
	return left << HALF_BITS | right;
}

/* The same for ES_PERMUTE_RUN numbers at once, from the first one on. */
void
es_permute_run(const EsSecret *secret, uint64 first, uint64 *results)
{
	uint64		left[ES_PERMUTE_RUN];
	uint64		right[ES_PERMUTE_RUN];
	uint64		blocks[ES_PERMUTE_RUN];
	uint64		hashes[ES_PERMUTE_RUN];

	for (int i = 0; i < ES_PERMUTE_RUN; i++)
	{
		left[i] = (first + i) >> HALF_BITS;
		right[i] = (first + i) & HALF_MASK;
	}
	for (int round = 0; round < ROUNDS; round++)
	{
		for (int i = 0; i < ES_PERMUTE_RUN; i++)
			blocks[i] = block_of_half(round, right[i]);
		sip_hash(secret, blocks, hashes, ES_PERMUTE_RUN);
		for (int i = 0; i < ES_PERMUTE_RUN; i++)
		{
			uint64		next = left[i] ^ hashes[i] >> (64 - HALF_BITS);

			left[i] = right[i];
			right[i] = next;
		}
	}
	for (int i = 0; i < ES_PERMUTE_RUN; i++)
		results[i] = left[i] << HALF_BITS | right[i];
}

uint64
es_permute_back(const EsSecret *secret, uint64 number)
{
	uint64		left = number >> HALF_BITS;
	uint64		right = number & HALF_MASK;

	for (int i = ROUNDS - 1; i >= 0; i--)
	{
		uint64		before = right ^ round_of_half(secret, i, left);

		right = left;
		left = before;
	}
	return left << HALF_BITS | right;
}
