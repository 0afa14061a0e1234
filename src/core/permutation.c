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
 * 2. No result depends on the machine: it is part of the format of the log (log/event_id.h).
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

typedef struct SipState
{
	uint64		v0;
	uint64		v1;
	uint64		v2;
	uint64		v3;
} SipState;

static inline void
sip_round(SipState *s)
{
	s->v0 += s->v1;
	s->v1 = rotate_left(s->v1, 13) ^ s->v0;
	s->v0 = rotate_left(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate_left(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate_left(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate_left(s->v1, 17) ^ s->v2;
	s->v2 = rotate_left(s->v2, 32);
}

static inline void
sip_block(SipState *s, uint64 block)
{
	s->v3 ^= block;
	sip_round(s);
	s->v0 ^= block;
}

/*
 * SipHash-1-3 of a message of seven bytes at most: a number that fits, its least significant
 * byte first.  That is a single block, with the length in the eighth byte.
 */
uint64
es_siphash(const EsSecret *secret, uint64 message, int len)
{
	SipState	s = {
		secret->k0 ^ UINT64CONST(0x736f6d6570736575),
		secret->k1 ^ UINT64CONST(0x646f72616e646f6d),
		secret->k0 ^ UINT64CONST(0x6c7967656e657261),
		secret->k1 ^ UINT64CONST(0x7465646279746573)
	};

	sip_block(&s, (uint64) len << 56 | message);
	s.v2 ^= 0xff;
	sip_round(&s);
	sip_round(&s);
	sip_round(&s);
	return s.v0 ^ s.v1 ^ s.v2 ^ s.v3;
}

static inline uint64
round_of_half(const EsSecret *secret, int round, uint64 half)
{
	return es_siphash(secret, (uint64) round << 32 | half, 5) >> (64 - HALF_BITS);
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
