/*
 * settings.c
 *		The settings eventstore.*, in alphabetical order.
 *
 * A setting that guards something is for superusers; eventstore.metadata is
 * for everybody and travels with the request (SET LOCAL).  Its syntax is checked
 * when it is set; what only jsonb can judge (a number out of its range, \u0000) is an
 * error of the append.
 */
#include "postgres.h"

#include "common/jsonapi.h"
#include "datatype/timestamp.h"
#include "mb/pg_wchar.h"
#include "utils/guc.h"

#include "compat/compat.h"
#include "core/settings.h"

bool		es_guc_allow_drop = false;
bool		es_guc_enable_scan = true;
int			es_guc_max_databases = 16384;
int			es_guc_max_event_size = 1024 * 1024;
int			es_guc_max_projections = 1000;
int			es_guc_max_workers = 4;
char	   *es_guc_metadata = NULL;
int			es_guc_projection_timeout = 60 * 1000;
int			es_guc_remember_ids = SECS_PER_DAY;
bool		es_guc_restore = false;
int			es_guc_scavenge_interval = 60 * 1000;

/*
 * A JSON object or nothing.  The parser of common/jsonapi reports an error
 * instead of raising it, which a check hook needs: it also runs where no
 * transaction is open, and in the postmaster, whose encoding is not that of a
 * database.  So escapes are not converted here.
 */
static bool
check_metadata(char **newval, void **extra, GucSource source)
{
	JsonLexContext *lex;
	const char *start = *newval;
	JsonParseErrorType result;

	if (start == NULL)
		return true;
	while (*start == ' ' || *start == '\t' || *start == '\n' || *start == '\r')
		start++;
	if (*start == '\0')
		return true;
	if (*start != '{')
	{
		GUC_check_errdetail("The value must be a JSON object.");
		return false;
	}

	lex = es_compat_json_lexer(*newval, GetDatabaseEncoding());
	result = pg_parse_json(lex, &nullSemAction);
	if (result != JSON_SUCCESS)
	{
		GUC_check_errdetail("%s", json_errdetail(result, lex));
		return false;
	}
	return true;
}

void
es_settings_init(bool preloading)
{
	DefineCustomBoolVariable("eventstore.allow_drop",
							 "Allows to drop a log that holds events.",
							 "While off, DROP EXTENSION, DROP SCHEMA and DROP TABLE are refused if they would remove events.",
							 &es_guc_allow_drop,
							 false,
							 PGC_USERSET, 0, NULL, NULL, NULL);

	DefineCustomBoolVariable("eventstore.enable_scan",
							 "Enables the planner's use of scans of the store for its functions in FROM.",
							 "While off, they are run to their end, as other functions are.",
							 &es_guc_enable_scan,
							 true,
							 PGC_USERSET, GUC_EXPLAIN, NULL, NULL, NULL);

	/* Sizes shared memory, so it can only be set before the server starts. */
	if (preloading)
		DefineCustomIntVariable("eventstore.max_databases",
								"Number of databases that can have an event log.",
								NULL,
								&es_guc_max_databases,
								16384, 1, 1000000,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("eventstore.max_event_size",
							"Greatest size of an event: its data, metadata, tags and payload as stored, before compression.",
							NULL,
							&es_guc_max_event_size,
							1024 * 1024, 1024, 255 * 1024 * 1024,
							PGC_SUSET, GUC_UNIT_BYTE, NULL, NULL, NULL);

	if (preloading)
		DefineCustomIntVariable("eventstore.max_projections",
								"Number of projections that workers can run at a time, in all databases together.",
								"Those of databases at rest make room for others.",
								&es_guc_max_projections,
								1000, 1, 1000000,
								PGC_POSTMASTER, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("eventstore.max_workers",
							"Most background workers that run projections, in all databases together.",
							"Each is one of max_worker_processes.",
							&es_guc_max_workers,
							4, 0, 256,
							PGC_SIGHUP, 0, NULL, NULL, NULL);

	DefineCustomStringVariable("eventstore.metadata",
							   "JSON object that is merged into the metadata of every event appended.",
							   "The keys of the event's own metadata win.",
							   &es_guc_metadata,
							   "",
							   PGC_USERSET, 0, check_metadata, NULL, NULL);

	DefineCustomIntVariable("eventstore.projection_timeout",
							"Longest time that a worker may spend on one batch of a projection.",
							"0 is no limit. Inline projections are under the statement_timeout of the appending session.",
							&es_guc_projection_timeout,
							60 * 1000, 0, PG_INT32_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	DefineCustomIntVariable("eventstore.remember_ids",
							"Time for which the ids of events are remembered that were taken away.",
							"A repeated append of such events is a duplicate until then, and a new one afterwards.",
							&es_guc_remember_ids,
							SECS_PER_DAY, 0, PG_INT32_MAX,
							PGC_SIGHUP, GUC_UNIT_S, NULL, NULL, NULL);

	DefineCustomBoolVariable("eventstore.restore",
							 "Allows to insert directly into a log that has seen appends, to restore events.",
							 NULL,
							 &es_guc_restore,
							 false,
							 PGC_SUSET, 0, NULL, NULL, NULL);

	DefineCustomIntVariable("eventstore.scavenge_interval",
							"Time between two passes in which hidden events are removed from the log.",
							"0: only es_scavenge() removes any.",
							&es_guc_scavenge_interval,
							60 * 1000, 0, PG_INT32_MAX,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);

	MarkGUCPrefixReserved("eventstore");
}
