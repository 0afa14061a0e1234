/*
 * preload.c
 *		What to do where the server does not preload the library.
 *
 * The value of shared_preload_libraries is a list of names.  ALTER SYSTEM takes them one
 * by one: a list within one pair of quotes would be stored as a single name, with which
 * the server does not start again.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/varlena.h"

#include "core/preload.h"

/*
 * The statement that adds the library to those that the server preloads now.
 */
char *
es_preload_statement(void)
{
	StringInfoData statement;
	char	   *libraries = pstrdup(shared_preload_libraries_string);
	List	   *names;
	ListCell   *lc;

	initStringInfo(&statement);
	appendStringInfoString(&statement, "ALTER SYSTEM SET shared_preload_libraries = ");
	/* as the server itself takes it apart (utils/init/miscinit.c) */
	if (SplitDirectoriesString(libraries, ',', &names))
	{
		foreach(lc, names)
			appendStringInfo(&statement, "%s, ", quote_literal_cstr(lfirst(lc)));
	}
	appendStringInfoString(&statement, "'eventstore';");
	return statement.data;
}
