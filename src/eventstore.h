/*
 * eventstore.h
 *		What every room shares: the SQLSTATEs, the limits and the few types
 *		that travel between rooms.
 */
#ifndef EVENTSTORE_H
#define EVENTSTORE_H

#include "postgres.h"
#include "fmgr.h"
#include "datatype/timestamp.h"
#include "utils/uuid.h"

/* The store's own SQLSTATEs; the reference in the README lists them. */
#define ES_WRONG_EXPECTED_VERSION	MAKE_SQLSTATE('S', 'E', '0', '0', '1')
#define ES_STREAM_TOMBSTONED		MAKE_SQLSTATE('S', 'E', '0', '0', '2')
#define ES_EVENT_ID_TAKEN			MAKE_SQLSTATE('S', 'E', '0', '0', '3')
#define ES_CONDITION_FAILED			MAKE_SQLSTATE('S', 'E', '0', '0', '4')
#define ES_PROJECTION_STOPPED		MAKE_SQLSTATE('S', 'E', '0', '0', '5')
#define ES_POSITION_AHEAD			MAKE_SQLSTATE('S', 'E', '0', '0', '6')

/* Longest stream name, category and type, in characters. */
#define ES_NAME_MAX_CHARS			255

/* expected_version: the stream has at least one event (KurrentDB's value). */
#define ES_EXPECT_EXISTS			INT64CONST(-4)

/* A name as the C code carries it: not NUL-terminated, not owned. */
typedef struct EsName
{
	const char *bytes;
	int			len;
} EsName;

#define ES_NAME_FORMAT				"%.*s"
#define ES_NAME_ARGS(n)				(n).len, (n).bytes

static inline bool
es_name_equal(EsName a, EsName b)
{
	return a.len == b.len && memcmp(a.bytes, b.bytes, a.len) == 0;
}

/* log/name.c */
extern void es_name_check(EsName name, const char *what);
extern EsName es_name_category(EsName stream);

/* log/uuid7.c */
extern void es_uuid7_generate(pg_uuid_t *ids, int n, TimestampTz now);

#endif							/* EVENTSTORE_H */
