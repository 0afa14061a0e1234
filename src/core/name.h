/*
 * name.h
 *		Names of streams, types and tags.
 */
#ifndef ES_NAME_H
#define ES_NAME_H

#include "postgres.h"

/* Longest name, in characters, and in bytes of any encoding. */
#define ES_NAME_MAX_CHARS	255
#define ES_NAME_MAX_BYTES	(4 * ES_NAME_MAX_CHARS)

/* A name as the C code carries it: not NUL-terminated, not owned. */
typedef struct EsName
{
	const char *bytes;
	int			len;
} EsName;

/* Stands for no name at all. */
#define ES_NAME_NONE		((EsName) {"", 0})

/* To print a name with a format string. */
#define ES_NAME_FORMAT		"%.*s"
#define ES_NAME_ARGS(n)		(n).len, (n).bytes

static inline bool
es_name_equal(EsName a, EsName b)
{
	return a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0;
}

/* By their bytes: less than, equal to, or greater than 0. */
static inline int
es_name_compare(EsName a, EsName b)
{
	int			order = memcmp(a.bytes, b.bytes, Min(a.len, b.len));

	return order != 0 ? order : a.len - b.len;
}

extern EsName es_name_from_text(Datum value);
extern EsName es_name_from_string(const char *string);
extern text *es_name_to_text(EsName name);
extern EsName es_name_in_utf8(EsName name);
extern void es_name_check(EsName name, const char *what);
extern EsName es_name_category(EsName stream);
extern int	es_names_unique(EsName *names, int n);

#endif							/* ES_NAME_H */
