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

/* Numbers that es_permute_run takes. */
#define ES_PERMUTE_RUN	8

extern uint64 es_siphash(const EsSecret *secret, uint64 message, int len);
extern uint64 es_permute(const EsSecret *secret, uint64 number);
extern void es_permute_run(const EsSecret *secret, uint64 first, uint64 *results);
extern uint64 es_permute_back(const EsSecret *secret, uint64 number);

#endif							/* ES_PERMUTATION_H */
