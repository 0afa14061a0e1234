/*
 * session.c
 *		What the sessions of schedulers and workers have in common: settings that
 *		nobody can turn against them, and transactions.
 *
 * What ALTER DATABASE, ALTER ROLE or the configuration say of these settings does not
 * apply.  Commits need not be flushed: if a mark is lost, the one before it is still true,
 * and a checkpoint is lost together with the effects of its events.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/guc.h"
#include "utils/snapmgr.h"

#include "worker/session.h"

void
es_session_set_up(void)
{
	static const struct
	{
		const char *name;
		const char *value;
	}			settings[] = {
		{"default_transaction_deferrable", "off"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"idle_in_transaction_session_timeout", "0"},
		{"lock_timeout", "0"},
		{"row_security", "on"},
		{"search_path", "pg_catalog, pg_temp"},
		{"session_replication_role", "origin"},
		{"synchronous_commit", "off"},
		{"transaction_timeout", "0"},	/* since PostgreSQL 17 */
	};

	for (int i = 0; i < lengthof(settings); i++)
	{
		if (GetConfigOption(settings[i].name, true, false) != NULL)
			SetConfigOption(settings[i].name, settings[i].value, PGC_SUSET, PGC_S_OVERRIDE);
	}
}

void
es_session_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

void
es_session_finish(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}
