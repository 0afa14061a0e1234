/*
 * numbers.c
 *		Sets of bigints, as sorted arrays: positions, keys, hashes.
 */
#include "postgres.h"

#include "core/numbers.h"

static int
compare_numbers(const void *a, const void *b)
{
	int64		x = *(const int64 *) a;
	int64		y = *(const int64 *) b;

	return x < y ? -1 : x > y;
}

/* Sort, and keep each once; how many there are then. */
int
es_numbers_unique(int64 *numbers, int n)
{
	int			kept = 0;

	qsort(numbers, n, sizeof(int64), compare_numbers);
	for (int i = 0; i < n; i++)
	{
		if (kept == 0 || numbers[kept - 1] != numbers[i])
			numbers[kept++] = numbers[i];
	}
	return kept;
}

/* Where a number stands in a sorted array; NULL: nowhere. */
const int64 *
es_numbers_find(const int64 *numbers, int n, int64 number)
{
	return bsearch(&number, numbers, n, sizeof(int64), compare_numbers);
}
