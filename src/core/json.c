/*
 * json.c
 *		Parts of a JSON value that an argument holds: strings, whole numbers.
 *
 * What a value must be, and the message if it is not, is the business of the caller.  Bytes
 * that are returned are those of the JSON value, which must stay.
 */
#include "postgres.h"

#include "utils/fmgrprotos.h"
#include "utils/numeric.h"

#include "core/json.h"

bool
es_json_key_is(const JsonbValue *key, const char *name)
{
	return key->val.string.len == strlen(name) &&
		memcmp(key->val.string.val, name, key->val.string.len) == 0;
}

/* The string that a value is; the caller has seen that it is one. */
EsName
es_json_string(const JsonbValue *value)
{
	EsName		string = {value->val.string.len > 0 ? value->val.string.val : "", value->val.string.len};

	Assert(value->type == jbvString);
	return string;
}

/* The elements of an array of strings; NULL: the value is no such array. */
EsName *
es_json_strings(const JsonbValue *value, int *n)
{
	JsonbContainer *array;
	JsonbIterator *iterator;
	JsonbValue	element;
	EsName	   *strings;

	*n = 0;
	if (value->type != jbvBinary)
		return NULL;
	array = value->val.binary.data;
	if (!JsonContainerIsArray(array) || JsonContainerIsScalar(array))
		return NULL;
	strings = palloc(sizeof(EsName) * Max(JsonContainerSize(array), 1));
	iterator = JsonbIteratorInit(array);
	(void) JsonbIteratorNext(&iterator, &element, true);	/* the array's begin */
	while (JsonbIteratorNext(&iterator, &element, true) == WJB_ELEM)
	{
		if (element.type != jbvString)
			return NULL;
		strings[(*n)++] = es_json_string(&element);
	}
	return strings;
}

/* A number without a fraction, in the range of bigint; false: the value is no such number. */
bool
es_json_whole_number(const JsonbValue *value, int64 *number)
{
	Datum		numeric;

	if (value->type != jbvNumeric)
		return false;
	numeric = NumericGetDatum(value->val.numeric);
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, numeric,
										  DirectFunctionCall2(numeric_trunc, numeric, Int32GetDatum(0)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_lt, numeric, NumericGetDatum(int64_to_numeric(PG_INT64_MIN)))) ||
		DatumGetBool(DirectFunctionCall2(numeric_gt, numeric, NumericGetDatum(int64_to_numeric(PG_INT64_MAX)))))
		return false;
	*number = DatumGetInt64(DirectFunctionCall1(numeric_int8, numeric));
	return true;
}
