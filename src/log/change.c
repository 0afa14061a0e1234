/*
 * change.c
 *		What begins every change of the store: may it be made here and now?
 *
 * Users' code runs in the midst of calls: triggers while events are stored, upcasters
 * while events are read, the code of projections.  What such code may call depends on
 * where it stands.  The rooms that run it say so here (es_activity_begin): rooms below them
 * cannot ask them.
 *
 *	code of			may append	may change streams,		may change projections
 *								subscriptions			and subscriptions
 *	a trigger		yes			no						no
 *	an upcaster		no			no						no
 *	a projection	yes			yes						no
 *
 * Invariant: the counters return to what they were when the code ends, also by an
 * error: whoever raises one lowers it in PG_FINALLY.
 *
 * Locks: es_control_begin takes AccessShare on event_log.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"

#include "log/change.h"
#include "log/registry.h"

/* How deep this backend is in each activity: they nest. */
static int	depth[ES_ACTIVITIES];

void
es_activity_begin(EsActivity activity)
{
	depth[activity]++;
}

void
es_activity_end(EsActivity activity)
{
	depth[activity]--;
}

static bool
is_in_progress(EsActivity activity)
{
	return depth[activity] > 0;
}

/*
 * An append begins.  "function" names it in messages.
 */
void
es_write_begin(const char *function)
{
	es_registry_require();
	PreventCommandDuringRecovery(function);
	PreventCommandIfReadOnly(function);
	PreventCommandIfParallelMode(function);
	/* an upcaster works for a read, a fetch or an append that is half done */
	if (is_in_progress(ES_UPCASTING))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot be called by an upcaster", function)));
}

/*
 * A change that is more than an append begins.
 */
void
es_change_begin(const char *function)
{
	es_write_begin(function);
	/* it would be about events that are half stored */
	if (is_in_progress(ES_STORING))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot be called by a trigger on eventstore.event_log", function)));
}

/*
 * A DROP takes a projection or an upcaster along.  Unlike other changes it is possible where
 * the library is not preloaded, and in the code of a projection.
 */
void
es_change_check_drop(void)
{
	if (es_registry_loaded())
		es_change_begin("DROP of what a projection or an upcaster needs");
}

/*
 * A statement about projections, subscriptions or the whole of the store begins.
 */
void
es_control_check(const char *function)
{
	es_change_begin(function);
	if (is_in_progress(ES_PROJECTING))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s cannot be called by the code of a projection", function)));
}

/* The same, and event_log is locked as by a read. */
const EsCatalog *
es_control_begin(const char *function)
{
	es_control_check(function);
	return es_catalog_lock(AccessShareLock);
}

/*
 * For statements that must see all that there is, which an older snapshot does not.
 */
void
es_control_require_read_committed(const char *function)
{
	if (IsolationUsesXactSnapshot())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("%s must be called in a READ COMMITTED transaction", function)));
}
