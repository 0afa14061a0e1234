/*
 * error.c
 *		An error as it is kept in a table: whole, for whoever has to mend its cause sees
 *		it there, and perhaps only there.
 *
 * Locks: none.  Crash: nothing is kept here.
 */
#include "postgres.h"

#include "utils/builtins.h"

#include "core/error.h"

/* The parts of an error; they live as long as it does. */
EsError
es_error_of(const ErrorData *error)
{
	EsError		parts = {
		.message = error->message != NULL ? error->message : "",
		.sqlstate = pstrdup(unpack_sql_state(error->sqlerrcode)),
		.detail = error->detail, .hint = error->hint, .context = error->context
	};

	return parts;
}

/*
 * The parts as ES_ERROR_PARTS parameters of a statement, texts in the order of EsError.
 * "error" may be NULL: all are null.
 */
void
es_error_put(const EsError *error, Datum *values, bool *isnull)
{
	static const EsError none = {0};
	const EsError *from = error != NULL ? error : &none;
	const char *parts[ES_ERROR_PARTS] = {
		from->message, from->sqlstate, from->detail, from->hint, from->context
	};

	for (int i = 0; i < ES_ERROR_PARTS; i++)
	{
		isnull[i] = parts[i] == NULL;
		values[i] = isnull[i] ? (Datum) 0 : CStringGetTextDatum(parts[i]);
	}
}
