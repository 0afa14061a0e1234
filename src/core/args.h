/*
 * args.h
 *		Arguments of SQL functions, checked the same way everywhere.
 */
#ifndef ES_ARGS_H
#define ES_ARGS_H

#include "postgres.h"

#include "core/name.h"
#include "fmgr.h"
#include "utils/array.h"
#include "utils/timestamp.h"

extern void es_arg_require(FunctionCallInfo fcinfo, int argno, const char *name);
extern char *es_arg_text(FunctionCallInfo fcinfo, int argno);
extern EsName es_arg_name(FunctionCallInfo fcinfo, int argno, const char *name);
extern int64 es_arg_count(FunctionCallInfo fcinfo, int argno, const char *name);
extern int64 es_arg_place(FunctionCallInfo fcinfo, int argno, const char *name,
						  int64 if_null);
extern TimestampTz es_arg_deadline(FunctionCallInfo fcinfo, int argno,
								   const char *name, int64 max_seconds);
extern EsName *es_arg_name_array(FunctionCallInfo fcinfo, int argno,
								 const char *name, int *n);
extern int64 *es_arg_positions(FunctionCallInfo fcinfo, int argno, const char *name, int *n);
extern void es_arg_check_range(const char *name, int value, int least, int greatest);
extern void es_array_read(ArrayType *array, Oid element, const char *name,
						  Datum **values, bool **nulls, int *n);

#endif							/* ES_ARGS_H */
