/*
 * spi.c
 *		SQL statements on the store's own tables, for work that appends do not wait for.
 *
 * They run with the rights of the tables' owner and a search_path that holds
 * nothing of the caller's; their plans are kept for the life of the backend.  A
 * plan survives DROP and CREATE EXTENSION, for it is made anew when the relations
 * that it names have changed (utils/cache/plancache.c).
 *
 * The tables take rows from these statements only, once the store is alive (log/guard.c).
 * While one of them runs, "running_at" is the depth of triggers at which it does: by that the
 * guard knows whether it was fired by the statement itself, or by a trigger of users'.
 *
 * An error leaves no trace: the abort of the (sub)transaction restores the role and
 * the settings, and ends SPI.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/snapmgr.h"

#include "core/spi.h"

void
es_spi_begin(EsSpi *spi)
{
	es_owner_enter(&spi->owner);
	if (SPI_connect() != SPI_OK_CONNECT)
		elog(ERROR, "SPI_connect failed");
}

void
es_spi_end(EsSpi *spi)
{
	SPI_finish();
	es_role_leave(&spi->owner);
}

static void
prepare_statement(EsStatement *statement)
{
	SPIPlanPtr	plan;
	int			n = 0;

	if (statement->plan != NULL)
		return;
	while (n < ES_SPI_MAX_ARGS && OidIsValid(statement->types[n]))
		n++;
	plan = SPI_prepare(statement->sql, n, statement->types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", statement->sql, SPI_result_code_string(SPI_result));
	statement->plan = plan;
}

static int	running_at = -1;	/* -1: none is running */

/* How many trigger functions are running, one within another. */
static int
trigger_depth(void)
{
	return DatumGetInt32(DirectFunctionCall1(pg_trigger_depth, (Datum) 0));
}

/* For a trigger: is it fired by a statement of the store itself? */
bool
es_spi_fires_trigger(void)
{
	return running_at >= 0 && trigger_depth() == running_at + 1;
}

static int
execute_plan(EsStatement *statement, const Datum *values, const char *nulls, bool read_only)
{
	int			before = running_at;
	int			result;

	running_at = trigger_depth();
	PG_TRY();
	{
		result = SPI_execute_plan(statement->plan, (Datum *) values, nulls, read_only, 0);
	}
	PG_FINALLY();
	{
		running_at = before;
	}
	PG_END_TRY();
	return result;
}

static uint64
run_checked(EsStatement *statement, const Datum *values, const char *nulls, bool read_only)
{
	int			result = execute_plan(statement, values, nulls, read_only);

	if (result < 0)
		elog(ERROR, "could not run \"%s\": %s", statement->sql, SPI_result_code_string(result));
	return SPI_processed;
}

/*
 * Run the statement; the number of rows.  "isnull" may be NULL: none is.
 */
uint64
es_spi_run(EsStatement *statement, const Datum *values, const bool *isnull)
{
	char		nulls[ES_SPI_MAX_ARGS];

	for (int i = 0; i < ES_SPI_MAX_ARGS; i++)
		nulls[i] = isnull != NULL && OidIsValid(statement->types[i]) && isnull[i] ? 'n' : ' ';
	prepare_statement(statement);
	return run_checked(statement, values, nulls, false);
}

/*
 * Run a SELECT as of this moment, whatever the isolation level.  No parameter is
 * null.
 */
uint64
es_spi_look(EsStatement *statement, const Datum *values)
{
	uint64		rows;

	prepare_statement(statement);
	PushActiveSnapshot(GetLatestSnapshot());
	rows = run_checked(statement, values, NULL, true);
	PopActiveSnapshot();
	return rows;
}

/*
 * Run a SELECT as the active snapshot sees it.  No parameter is null.
 */
uint64
es_spi_see(EsStatement *statement, const Datum *values)
{
	prepare_statement(statement);
	return run_checked(statement, values, NULL, true);
}

/* A value of the last statement's result; rows and columns from 1. */
Datum
es_spi_value(int row, int column, bool *isnull)
{
	return SPI_getbinval(SPI_tuptable->vals[row - 1], SPI_tuptable->tupdesc, column, isnull);
}

/* The same as text, palloc'd in SPI's context; NULL if it is null. */
char *
es_spi_text(int row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row - 1], SPI_tuptable->tupdesc, column);
}

/* A parameter that is a bigint[]. */
Datum
es_spi_numbers(const int64 *numbers, int n)
{
	ArrayType  *array;
	Size		size = ARR_OVERHEAD_NONULLS(1) + sizeof(int64) * n;

	if (n == 0)
		return PointerGetDatum(construct_empty_array(INT8OID));
	array = palloc0(size);
	SET_VARSIZE(array, size);
	array->ndim = 1;
	array->elemtype = INT8OID;
	ARR_DIMS(array)[0] = n;
	ARR_LBOUND(array)[0] = 1;
	memcpy(ARR_DATA_PTR(array), numbers, sizeof(int64) * n);
	return PointerGetDatum(array);
}

/* A parameter that is a text[], of C strings. */
Datum
es_spi_texts(List *strings)
{
	ArrayBuildState *array = initArrayResult(TEXTOID, CurrentMemoryContext, false);
	ListCell   *lc;

	foreach(lc, strings)
		accumArrayResult(array, CStringGetTextDatum(lfirst(lc)), false, TEXTOID, CurrentMemoryContext);
	return makeArrayResult(array, CurrentMemoryContext);
}
