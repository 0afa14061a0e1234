/*
 * release.c
 *		The version of this library, and which versions of the SQL it serves.
 *
 * A version is three numbers, major.minor.patch, and is compared by them: 1.10.0 comes after
 * 1.9.0.  A library serves the SQL of its own major version that is not newer than itself.
 * So the server can be restarted with a new library at any time, and the databases updated,
 * ALTER EXTENSION eventstore UPDATE, one by one and days later.  Before 1.0.0 each minor
 * version counts as a major one.
 *
 * ES_VERSION is what the control file says; nothing else looks at it.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "core/release.h"

/* Where the numbers of a version stand. */
#define MAJOR	0
#define MINOR	1
#define NUMBERS	3

/* No number of a version is greater. */
#define GREATEST_OF_VERSION	999999

/* The version of this library. */
const char *
es_release_name(void)
{
	return ES_VERSION;
}

/* Read three numbers; false if it is anything else. */
static bool
read_version(const char *version, int *numbers)
{
	for (int i = 0; i < NUMBERS; i++)
	{
		if (i > 0 && *version++ != '.')
			return false;
		if (*version < '0' || *version > '9')
			return false;
		for (numbers[i] = 0; *version >= '0' && *version <= '9'; version++)
		{
			numbers[i] = 10 * numbers[i] + (*version - '0');
			if (numbers[i] > GREATEST_OF_VERSION)
				return false;
		}
	}
	return *version == '\0';
}

/* Less than, equal to, or greater than 0. */
static int
compare_versions(const int *a, const int *b)
{
	for (int i = 0; i < NUMBERS; i++)
	{
		if (a[i] != b[i])
			return a[i] < b[i] ? -1 : 1;
	}
	return 0;
}

/* What is this library to SQL of that version? */
EsService
es_release_service(const char *version)
{
	int			own[NUMBERS];
	int			other[NUMBERS];

	if (!read_version(ES_VERSION, own) || !read_version(version, other))
		return ES_KNOWS_NO_SUCH;
	if (compare_versions(other, own) > 0)
		return ES_IS_OLDER;
	if (other[MAJOR] != own[MAJOR] || (own[MAJOR] == 0 && other[MINOR] != own[MINOR]))
		return ES_IS_OTHER_MAJOR;
	return ES_SERVES;
}

/* Does SQL of that version have what there is since another one? */
bool
es_release_has(const char *version, const char *since)
{
	int			it[NUMBERS];
	int			first[NUMBERS];

	return read_version(version, it) && read_version(since, first) && compare_versions(it, first) >= 0;
}
