/*
 * existing.c
 *		What is said when something of that name is there already.
 *
 * With if_not_exists that is a NOTICE, and what there is stays as it is.  Where it is not
 * what was asked for, the NOTICE says in what it differs, by the names of the arguments
 * alone: what is kept is not shown here.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "lib/stringinfo.h"

#include "core/existing.h"

/* Add a name to the list of what differs, if that does. */
void
es_existing_differs(List **differing, bool differs, const char *name)
{
	if (differs)
		*differing = lappend(*differing, (char *) name);
}

static char *
join_names(List *names)
{
	StringInfoData joined;
	ListCell   *lc;

	initStringInfo(&joined);
	foreach(lc, names)
		appendStringInfo(&joined, "%s%s", joined.len > 0 ? ", " : "", (char *) lfirst(lc));
	return joined.data;
}

/*
 * There is a projection or subscription ("kind") of that name: an error, or with
 * if_not_exists a NOTICE with the list of what differs.
 */
void
es_existing_tell(const char *kind, EsName name, bool if_not_exists, List *differing)
{
	if (!if_not_exists)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("%s \"" ES_NAME_FORMAT "\" already exists", kind, ES_NAME_ARGS(name))));
	ereport(NOTICE,
			(errcode(ERRCODE_DUPLICATE_OBJECT),
			 errmsg("%s \"" ES_NAME_FORMAT "\" already exists, skipping", kind, ES_NAME_ARGS(name)),
			 differing != NIL ? errdetail("It differs in %s.", join_names(differing)) : 0));
}
