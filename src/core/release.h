/*
 * release.h
 *		The version of this library, and which stores it serves.
 */
#ifndef ES_RELEASE_H
#define ES_RELEASE_H

/*
 * The formats of the log that it can read and write: docs/format.md.  A new log is of the
 * newest.
 */
#define ES_FORMAT			1
#define ES_FORMAT_OLDEST	1

/* What this library is to a version of the SQL. */
typedef enum EsService
{
	ES_SERVES,
	ES_IS_OLDER,				/* the SQL is newer: the server must be restarted */
	ES_IS_OTHER_MAJOR,
	ES_KNOWS_NO_SUCH			/* the version is not three numbers */
} EsService;

extern const char *es_release_name(void);
extern EsService es_release_service(const char *version);
extern bool es_release_has(const char *version, const char *since);

#endif							/* ES_RELEASE_H */
