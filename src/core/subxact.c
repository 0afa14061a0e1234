/*
 * subxact.c
 *		Trying something in a subtransaction: what fails leaves nothing behind, locks
 *		and waits included, and the caller goes on.
 *
 * As PL/pgSQL does for a block with EXCEPTION (pl_exec.c, exec_stmt_block).
 *
 * Invariants
 * 1. Whatever happens, the caller has its memory context and its resource owner back,
 *    and the transaction is at the level it was: whoever catches an error that is thrown
 *    on knows of no subtransaction but its own.
 * 2. The error is in the caller's memory, so it outlives the subtransaction.
 *
 * Locks: none.  Crash: all of it belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "core/subxact.h"

/*
 * NULL: it came to its end.  Otherwise what it raised, which the caller handles or
 * throws on.
 */
ErrorData *
es_subxact_try(const char *name, EsAttempt run, void *arg)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData  *volatile error = NULL;

	BeginInternalSubTransaction(name);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		if (run(arg))
			ReleaseCurrentSubTransaction();
		else
			RollbackAndReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();	/* (2) */
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);	/* (1) */
	CurrentResourceOwner = owner;
	return error;
}
