/*
 * compression.c
 *		Large values of events are compressed by lz4 where the server has it.
 *
 * Called once by the install script, which cannot ask for that itself: SQL has no condition,
 * and a server without lz4 refuses the statement.  The default of the server is pglz, which
 * compresses and decompresses several times as slowly.
 *
 * Locks: AccessExclusive on event_log, which CREATE EXTENSION has just made.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "executor/spi.h"
#include "fmgr.h"

PG_FUNCTION_INFO_V1(use_lz4);

/*
 * eventstore.use_lz4() → void
 */
Datum
use_lz4(PG_FUNCTION_ARGS)
{
#ifdef USE_LZ4
	static const char statement[] =
		"ALTER TABLE eventstore.event_log ALTER COLUMN data SET COMPRESSION lz4,"
		" ALTER COLUMN metadata SET COMPRESSION lz4, ALTER COLUMN payload SET COMPRESSION lz4";

	if (SPI_connect() != SPI_OK_CONNECT || SPI_execute(statement, false, 0) != SPI_OK_UTILITY)
		elog(ERROR, "could not run \"%s\"", statement);
	SPI_finish();
#endif
	PG_RETURN_VOID();
}
