/*
 * numbers.h
 *		Sets of bigints, as sorted arrays.
 */
#ifndef ES_NUMBERS_H
#define ES_NUMBERS_H

#include "postgres.h"

extern int	es_numbers_unique(int64 *numbers, int n);
extern const int64 *es_numbers_find(const int64 *numbers, int n, int64 number);

#endif							/* ES_NUMBERS_H */
