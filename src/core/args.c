/*
 * args.c
 *		Arguments of SQL functions, checked the same way everywhere.
 *
 * Every C function of the store can be called with NULL for any argument (none
 * is STRICT, so that a NULL is an error and not a silent NULL result).  A NULL
 * where none may be is 22004, a value out of range 22023, and the message names
 * the argument as the reference does.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"

#include "core/args.h"

void
es_arg_require(FunctionCallInfo fcinfo, int argno, const char *name)
{
	if (PG_ARGISNULL(argno))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("%s must not be null", name)));
}

/* A text argument as a C string, palloc'd.  NULL gives NULL. */
char *
es_arg_text(FunctionCallInfo fcinfo, int argno)
{
	return PG_ARGISNULL(argno) ? NULL : text_to_cstring(PG_GETARG_TEXT_PP(argno));
}

/* A text argument that must be there; its form is not looked at. */
EsName
es_arg_name(FunctionCallInfo fcinfo, int argno, const char *name)
{
	es_arg_require(fcinfo, argno, name);
	return es_name_from_text(PG_GETARG_DATUM(argno));
}

/* A greatest number of rows; NULL means no limit. */
int64
es_arg_count(FunctionCallInfo fcinfo, int argno, const char *name)
{
	int32		count;

	if (PG_ARGISNULL(argno))
		return PG_INT64_MAX;
	count = PG_GETARG_INT32(argno);
	if (count < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	return count;
}

/* A position or version, 0 or more. */
int64
es_arg_place(FunctionCallInfo fcinfo, int argno, const char *name, int64 if_null)
{
	int64		place;

	if (PG_ARGISNULL(argno))
		return if_null;
	place = PG_GETARG_INT64(argno);
	if (place < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	return place;
}

/*
 * The moment at which a wait of the given length, an interval argument, is
 * over.  NULL means not to wait at all: 0 is returned.  A wait of more than
 * max_seconds is refused; 0: any length.
 */
TimestampTz
es_arg_deadline(FunctionCallInfo fcinfo, int argno, const char *name,
				int64 max_seconds)
{
	Interval   *length;
	TimestampTz now,
				deadline;

	if (PG_ARGISNULL(argno))
		return 0;
	length = PG_GETARG_INTERVAL_P(argno);
	now = GetCurrentTimestamp();
	deadline = DatumGetTimestampTz(DirectFunctionCall2(timestamptz_pl_interval,
													   TimestampTzGetDatum(now),
													   IntervalPGetDatum(length)));
	if (deadline < now)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be negative", name)));
	if (max_seconds > 0 && deadline > now + max_seconds * USECS_PER_SEC)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be more than %lld seconds", name, (long long) max_seconds)));
	return deadline;
}

/*
 * The elements of a one-dimensional array.  Its lower bound does not matter.
 */
void
es_array_read(ArrayType *array, Oid element, const char *name,
			  Datum **values, bool **nulls, int *n)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;

	if (ARR_NDIM(array) > 1)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be a one-dimensional array", name)));
	get_typlenbyvalalign(element, &typlen, &typbyval, &typalign);
	deconstruct_array(array, element, typlen, typbyval, typalign,
					  values, nulls, n);
}

/*
 * A text[] argument without NULLs among its elements.  NULL gives NULL: no
 * filter.  An empty array gives no names, which match nothing.
 */
EsName *
es_arg_name_array(FunctionCallInfo fcinfo, int argno, const char *name, int *n)
{
	Datum	   *values;
	bool	   *nulls;
	EsName	   *names;

	*n = 0;
	if (PG_ARGISNULL(argno))
		return NULL;
	es_array_read(PG_GETARG_ARRAYTYPE_P(argno), TEXTOID, name, &values, &nulls, n);
	names = palloc(sizeof(EsName) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not contain null", name)));
		names[i] = es_name_from_text(values[i]);
	}
	return names;
}

/* A bigint[] argument without NULLs among its elements.  NULL gives NULL. */
int64 *
es_arg_positions(FunctionCallInfo fcinfo, int argno, const char *name, int *n)
{
	Datum	   *values;
	bool	   *nulls;
	int64	   *positions;

	*n = 0;
	if (PG_ARGISNULL(argno))
		return NULL;
	es_array_read(PG_GETARG_ARRAYTYPE_P(argno), INT8OID, name, &values, &nulls, n);
	positions = palloc(sizeof(int64) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		if (nulls[i])
			ereport(ERROR,
					(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
					 errmsg("%s must not contain null", name)));
		positions[i] = DatumGetInt64(values[i]);
	}
	return positions;
}

void
es_arg_check_range(const char *name, int value, int least, int greatest)
{
	if (value < least || value > greatest)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must be from %d to %d", name, least, greatest)));
}
