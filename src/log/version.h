/*
 * version.h
 *		The version of a stream, and what an append expects it to be.
 */
#ifndef ES_VERSION_H_INCLUDED
#define ES_VERSION_H_INCLUDED

#include "log/stream.h"

/* expected_version: the stream has at least one event (KurrentDB's value). */
#define ES_EXPECT_EXISTS			INT64CONST(-4)

/* Looking up versions in the log. */
typedef struct EsVersions EsVersions;

extern EsVersions *es_versions_open(const EsCatalog *cat, Relation log, LOCKMODE lockmode, Snapshot snapshot);
extern void es_versions_close(EsVersions *versions);
extern int64 es_version_of(EsVersions *versions, const EsStream *stream);
extern bool es_version_is_seen(EsVersions *versions, Snapshot snapshot);

extern int64 es_version_look_up(const EsCatalog *cat, Snapshot snapshot, EsStream *stream);

/* What an append expects of it. */
extern void es_version_check_expected(int64 version);
extern bool es_version_matches(const EsStream *stream, int64 expected, int64 actual);
extern void es_version_raise(EsName stream, int64 expected, int64 actual);

#endif							/* ES_VERSION_H_INCLUDED */
