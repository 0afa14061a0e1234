/*
 * commit.c
 *		A transaction that does nothing but fetch commits without waiting for the disk.
 *
 * What such a commit can lose in a crash is a lease of the last moments, and then its
 * events are handed out again, which "at least once" allows.  The ack of the consumer that
 * had them is an error, or its count is short, if the consumer had been given them before.
 * What has been acked is not lost: the commit of an ack waits as ever, and the log of the
 * server is flushed in order, the fetch before it.
 *
 * The transaction has done nothing else if all the WAL that it has written was written
 * within calls of es_fetch, none of which ran an upcaster: XactLastRecEnd, the end of what
 * this transaction has written last (access/transam/xlog.c), is then where the last fetch
 * left it.  (A trigger that somebody has put on a table of the subscriptions is part of the
 * fetch: its work is lost with it only.)  The setting synchronous_commit is off for the rest
 * of the transaction, which is its commit (RecordTransactionCommit in access/transam/xact.c);
 * what forces a wait without regard to the setting still does.  A session or transaction that
 * has changed the setting itself gets what it asked for.
 *
 * Invariant: if anything else has written WAL before the commit, be it a hint, the commit
 * waits.  What writes none, a NOTIFY or an unlogged table, does not outlive a crash anyway.
 * PREPARE TRANSACTION does not come here.
 *
 * Locks: none.
 * Crash: as said above.
 */
#include "postgres.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/guc.h"

#include "subscriptions/commit.h"

/* Where the last fetch of this transaction ended, if all before it were fetches, too. */
static XLogRecPtr fetched_upto = InvalidXLogRecPtr;

/* Was synchronous_commit changed in this session? */
static bool
is_set(void)
{
	return strcmp(GetConfigOption("synchronous_commit", false, false),
				  GetConfigOptionResetString("synchronous_commit")) != 0;
}

static void
relax_commit_at_end(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			if (fetched_upto != InvalidXLogRecPtr && fetched_upto == XactLastRecEnd && !is_set())
				(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
										 GUC_ACTION_LOCAL, true, 0, false);
			break;
		case XACT_EVENT_COMMIT:
		case XACT_EVENT_ABORT:
		case XACT_EVENT_PREPARE:
			fetched_upto = InvalidXLogRecPtr;
			break;
		default:
			break;
	}
}

/* A fetch begins: has this transaction written nothing but fetches? */
bool
es_fetch_is_first(void)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(relax_commit_at_end, NULL);
	registered = true;
	return XactLastRecEnd == fetched_upto;
}

/* A fetch ends that ran no upcaster, in a transaction that has written nothing else. */
void
es_fetch_was_all(void)
{
	fetched_upto = XactLastRecEnd;
}
