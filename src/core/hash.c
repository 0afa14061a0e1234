/*
 * hash.c
 *		The hash by which names are stored and found: XXH64 over UTF-8.
 *
 * The server's own hash functions cannot be used for that: they differ with the byte order
 * of the machine and see a name as the database's encoding writes it, and a dump goes to
 * other machines and encodings.
 *
 * The algorithm: four accumulators take 32 bytes a round; they are merged, the rest of
 * the bytes is added in pieces of 8, 4 and 1, and the bits are mixed.
 *
 * Invariant: no result depends on the machine, the encoding or the server's version.
 * Numbers are read from bytes by shifts; compilers make a single load of that where the
 * machine is little-endian.
 */
#include "postgres.h"

#include "core/hash.h"

#define PRIME_1		UINT64CONST(0x9e3779b185ebca87)
#define PRIME_2		UINT64CONST(0xc2b2ae3d27d4eb4f)
#define PRIME_3		UINT64CONST(0x165667b19e3779f9)
#define PRIME_4		UINT64CONST(0x85ebca77c2b2ae63)
#define PRIME_5		UINT64CONST(0x27d4eb2f165667c5)

static inline uint64
read_32(const uint8 *p)
{
	return (uint64) p[0] | (uint64) p[1] << 8 | (uint64) p[2] << 16 | (uint64) p[3] << 24;
}

static inline uint64
read_64(const uint8 *p)
{
	return read_32(p) | read_32(p + 4) << 32;
}

static inline uint64
rotate_left(uint64 x, int bits)
{
	return x << bits | x >> (64 - bits);
}

static inline uint64
add_round(uint64 sum, uint64 input)
{
	return rotate_left(sum + input * PRIME_2, 31) * PRIME_1;
}

/* Take in rounds of 32 bytes, as long as there are any. */
static uint64
hash_rounds(const uint8 **p, const uint8 *end, uint64 seed)
{
	uint64		sums[4] = {seed + PRIME_1 + PRIME_2, seed + PRIME_2, seed, seed - PRIME_1};
	uint64		hash;

	for (; end - *p >= 32; *p += 32)
	{
		for (int i = 0; i < 4; i++)
			sums[i] = add_round(sums[i], read_64(*p + 8 * i));
	}
	hash = rotate_left(sums[0], 1) + rotate_left(sums[1], 7) + rotate_left(sums[2], 12) + rotate_left(sums[3], 18);
	for (int i = 0; i < 4; i++)
		hash = (hash ^ add_round(0, sums[i])) * PRIME_1 + PRIME_4;
	return hash;
}

uint64
es_hash_bytes(const void *bytes, Size len, uint64 seed)
{
	const uint8 *p = bytes;
	const uint8 *end = p + len;
	uint64		hash = len >= 32 ? hash_rounds(&p, end, seed) : seed + PRIME_5;

	hash += (uint64) len;
	for (; end - p >= 8; p += 8)
		hash = rotate_left(hash ^ add_round(0, read_64(p)), 27) * PRIME_1 + PRIME_4;
	if (end - p >= 4)
	{
		hash = rotate_left(hash ^ (read_32(p) * PRIME_1), 23) * PRIME_2 + PRIME_3;
		p += 4;
	}
	for (; p < end; p++)
		hash = rotate_left(hash ^ (*p * PRIME_5), 11) * PRIME_1;

	hash = (hash ^ hash >> 33) * PRIME_2;
	hash = (hash ^ hash >> 29) * PRIME_3;
	return hash ^ hash >> 32;
}

uint64
es_hash_number(int64 number, uint64 seed)
{
	uint8		bytes[8];

	for (int i = 0; i < 8; i++)
		bytes[i] = (uint8) ((uint64) number >> (8 * i));
	return es_hash_bytes(bytes, sizeof(bytes), seed);
}

/*
 * A name that the server cannot convert to UTF-8 is an error (22P05); none such has been
 * stored.
 */
uint64
es_hash_name(EsName name, uint64 seed)
{
	EsName		utf8 = es_name_in_utf8(name);
	uint64		hash = es_hash_bytes(utf8.bytes, utf8.len, seed);

	if (utf8.bytes != name.bytes)
		pfree((void *) utf8.bytes);
	return hash;
}
