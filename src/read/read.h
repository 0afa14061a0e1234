/*
 * read.h
 *		The SQL functions that read events.
 */
#ifndef ES_READ_H
#define ES_READ_H

#include "fmgr.h"

extern PGDLLEXPORT Datum es_read_stream(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum es_read_all(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum es_read_category(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum es_read_correlation(PG_FUNCTION_ARGS);
extern PGDLLEXPORT Datum es_query(PG_FUNCTION_ARGS);

#endif							/* ES_READ_H */
