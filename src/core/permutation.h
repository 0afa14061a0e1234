/*
 * permutation.h
 *		A permutation of the numbers of 62 bits, under a secret.
 */
#ifndef ES_PERMUTATION_H
#define ES_PERMUTATION_H

#include "postgres.h"

/* 128 bits, as the two numbers of a key of SipHash. */
typedef struct EsSecret
{
	uint64		k0;
	uint64		k1;
} EsSecret;

extern uint64 es_siphash(const EsSecret *secret, uint64 message, int len);
extern uint64 es_permute(const EsSecret *secret, uint64 number);
extern uint64 es_permute_back(const EsSecret *secret, uint64 number);

#endif							/* ES_PERMUTATION_H */
