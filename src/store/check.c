/*
 * check.c
 *		Whether what is stored is as it must be: es_check.
 *
 * Each check is a SELECT of what breaks an invariant, or, for indexes, a count of their
 * entries against the rows of the table (index.c).  All see the store by one snapshot, so
 * what a transaction changes together is judged together: an append that commits
 * meanwhile is in none of them, an event that is being removed is in all or in none.
 *
 * What is not part of a snapshot is read after it was taken: first whether the log is
 * sealed, then the registers, which only rise.  An event, a head or a checkpoint that the
 * snapshot sees was made after the register that allows for it was on disk, here and, by
 * the order of the WAL, on a standby.  Sealing raises the registers before it says so;
 * while the log is not sealed they may still be below what was restored, and nothing is
 * compared with them.
 *
 * Nothing is written, so all of this works on a standby, and where the library is not
 * preloaded.  The statements run with the rights of the tables' owner.
 *
 * Invariant: no row is given for a store that nobody has damaged.  What only looks odd is
 * no check: that a rule of retention names a stream that is not there, say.
 *
 * Locks: AccessShare.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"
#include "utils/tuplestore.h"

#include "core/spi.h"
#include "log/registry.h"
#include "log/secret.h"
#include "store/checks.h"
#include "store/index.h"

PG_FUNCTION_INFO_V1(es_check);

/* Most rows that one check gives. */
#define MAX_ROWS	100

static void
put_row(ReturnSetInfo *rsinfo, Datum severity, Datum object, Datum problem)
{
	Datum		values[3] = {severity, object, problem};
	bool		isnull[3] = {false, false, false};

	tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, isnull);
}

/* The registers, as the parameters of the checks: null while the log is not sealed. */
static void
read_registers(Datum *values, char *nulls)
{
	static EsStatement seal = {
		"SELECT last_value FROM eventstore.seal_register WHERE is_called", {0}
	};
	static EsStatement registers = {
		"SELECT p.last_value, k.last_value"
		" FROM eventstore.position_register p, eventstore.stream_key_register k", {0}
	};
	bool		isnull;
	bool		sealed = es_spi_see(&seal, NULL) > 0 && DatumGetInt64(es_spi_value(1, 1, &isnull)) == ES_SEALED;

	(void) es_spi_see(&registers, NULL);
	for (int i = 0; i < ES_CHECK_PARAMETERS; i++)
	{
		values[i] = es_spi_value(1, i + 1, &isnull);
		nulls[i] = sealed ? ' ' : 'n';
	}
}

static void
run_check(ReturnSetInfo *rsinfo, const EsCheck *check, const char *schema, Datum *values, const char *nulls)
{
	Oid			types[ES_CHECK_PARAMETERS] = {INT8OID, INT8OID};
	char	   *sql = psprintf(check->sql, schema);
	int			result = SPI_execute_with_args(sql, ES_CHECK_PARAMETERS, types, values, nulls, true, MAX_ROWS);
	Datum		severity = CStringGetTextDatum(check->severity);

	if (result != SPI_OK_SELECT)
		elog(ERROR, "could not run \"%s\": %s", sql, SPI_result_code_string(result));
	for (int i = 1; i <= (int) SPI_processed; i++)
		put_row(rsinfo, severity, CStringGetTextDatum(es_spi_text(i, 1)), CStringGetTextDatum(es_spi_text(i, 2)));
	SPI_freetuptable(SPI_tuptable);
}

static void
put_problem(ReturnSetInfo *rsinfo, const char *object, const char *problem)
{
	put_row(rsinfo, CStringGetTextDatum("error"), CStringGetTextDatum(object), CStringGetTextDatum(problem));
}

static void
put_index_problem(void *arg, const char *index, const char *problem)
{
	put_problem(arg, psprintf("index eventstore.%s", index), problem);
}

/*
 * es_check() → SETOF (severity, object, problem)
 */
Datum
es_check(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	const char *schema;
	const char *problem;
	Snapshot	snapshot;
	Datum		values[ES_CHECK_PARAMETERS];
	char		nulls[ES_CHECK_PARAMETERS];
	EsSpi		spi;

	InitMaterializedSRF(fcinfo, 0);
	(void) es_catalog_format(cat);	/* a log that cannot be served cannot be judged */
	schema = quote_identifier(get_namespace_name(get_func_namespace(fcinfo->flinfo->fn_oid)));
	snapshot = RegisterSnapshot(GetLatestSnapshot());
	es_spi_begin(&spi);
	PushActiveSnapshot(snapshot);

	read_registers(values, nulls);
	problem = es_secret_problem(cat);
	if (nulls[0] == ' ' && problem != NULL)
		put_problem(rsinfo, "eventstore.id_check", problem);
	for (int i = 0; i < es_number_of_checks; i++)
		run_check(rsinfo, &es_checks[i], schema, values, nulls);
	es_index_check(cat, snapshot, put_index_problem, rsinfo);

	PopActiveSnapshot();
	es_spi_end(&spi);
	UnregisterSnapshot(snapshot);
	PG_RETURN_NULL();
}
