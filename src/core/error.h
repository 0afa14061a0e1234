/*
 * error.h
 *		An error as it is kept in a table.
 */
#ifndef ES_ERROR_H
#define ES_ERROR_H

#include "postgres.h"

/* Its parts; NULL: it has none. */
typedef struct EsError
{
	const char *message;
	const char *sqlstate;
	const char *detail;
	const char *hint;
	const char *context;
} EsError;

#define ES_ERROR_PARTS	5

extern EsError es_error_of(const ErrorData *error);
extern void es_error_put(const EsError *error, Datum *values, bool *isnull);

#endif							/* ES_ERROR_H */
