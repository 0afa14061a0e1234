/*
 * hash.h
 *		The hash by which names are stored and found.
 *
 * Format 1 of the store: XXH64 (github.com/Cyan4973/xxHash, "XXH64 algorithm description")
 * over the name in UTF-8, read byte by byte in little-endian order.  So the same name has
 * the same hash on every machine, in every encoding of a database and on every version of
 * the server; anybody can compute it elsewhere.  A number is hashed as its eight bytes,
 * the least significant first.  In SQL a hash is a bigint: the same 64 bits, signed.
 *
 *	 name			seed	hash
 *	 a				0		d24ec4f1a98c6e5b
 *	 abc			0		44bc2cf5ad770999
 *	 é				0		17d757dfb8b46f78	(bytes c3 a9)
 *	 course:1		0		8a25e8218d18d09d
 *	 0123456789abcdef0123456789abcdef	0	642a94958e71e6c5
 *
 * What depends on it, and must not change without another format, stands in log/format.h;
 * the members of a consumer group are dealt streams by the hash of the stream's name
 * with seed 0, modulo the size of the group.
 */
#ifndef ES_HASH_H
#define ES_HASH_H

#include "core/name.h"

extern uint64 es_hash_bytes(const void *bytes, Size len, uint64 seed);
extern uint64 es_hash_number(int64 number, uint64 seed);
extern uint64 es_hash_name(EsName name, uint64 seed);

#endif							/* ES_HASH_H */
