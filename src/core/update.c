/*
 * update.c
 *		What a script of ALTER EXTENSION eventstore UPDATE begins with.
 *
 * The server loads the library when it starts.  Where a new version has been installed and
 * the server was not restarted, the scripts on disk are new and the library in memory is
 * old: it would serve tables that it does not know.  So the first statement of each script
 * asks, and the old library is what answers:
 *
 *	 SELECT eventstore.require_library('1.1.0');
 *
 * with the version that the script leads to.  The update then fails as a whole.
 *
 * Every later library keeps this function, by this name and with this argument.
 *
 * Sessions that have looked the store up before the update do so again when it is
 * committed: they may have to find relations that it has made (core/catalog.c).
 *
 * Locks: none.
 * Crash: the update is a transaction.
 */
#include "postgres.h"

#include "fmgr.h"
#include "utils/builtins.h"

#include "core/args.h"
#include "core/catalog.h"
#include "core/release.h"

PG_FUNCTION_INFO_V1(require_library);

/*
 * eventstore.require_library(version text) → void
 */
Datum
require_library(PG_FUNCTION_ARGS)
{
	char	   *version;

	es_arg_require(fcinfo, 0, "version");
	version = es_arg_text(fcinfo, 0);
	switch (es_release_service(version))
	{
		case ES_SERVES:
			es_catalog_announce();
			break;
		case ES_KNOWS_NO_SUCH:
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("\"%s\" is not a version of eventstore", version)));
			break;
		case ES_IS_OLDER:
		case ES_IS_OTHER_MAJOR:
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("this needs the library of eventstore %s, but %s is loaded",
							version, es_release_name()),
					 errhint("Restart the server first, then run ALTER EXTENSION eventstore UPDATE again.")));
	}
	PG_RETURN_VOID();
}
