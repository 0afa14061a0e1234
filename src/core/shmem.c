/*
 * shmem.c
 *		Parts of shared memory, each with LWLocks of its own.
 *
 * A room adds its part while shared_preload_libraries is processed.  The server asks for
 * the sizes once all libraries are loaded, and has the memory set up before the first
 * process is started (storage/ipc/ipci.c).
 *
 * Locks: AddinShmemInitLock while parts are set up.
 * Crash: shared memory is made anew, and each part is set up as at a start.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

#include "core/shmem.h"

#define MAX_PARTS	8

static const EsShmemPart *parts[MAX_PARTS];
static int	nparts = 0;

static shmem_request_hook_type prev_shmem_request_hook = NULL;
static shmem_startup_hook_type prev_shmem_startup_hook = NULL;

static void
request_parts(void)
{
	if (prev_shmem_request_hook)
		prev_shmem_request_hook();
	for (int i = 0; i < nparts; i++)
	{
		RequestAddinShmemSpace(parts[i]->size());
		if (parts[i]->more != NULL)
			RequestAddinShmemSpace(parts[i]->more());
		if (parts[i]->nlocks > 0)
			RequestNamedLWLockTranche(parts[i]->name, parts[i]->nlocks);
	}
}

static void
attach_parts(void)
{
	if (prev_shmem_startup_hook)
		prev_shmem_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	for (int i = 0; i < nparts; i++)
	{
		Size		size = parts[i]->size();
		bool		found;
		void	   *memory = ShmemInitStruct(parts[i]->name, size, &found);

		if (!found)
			memset(memory, 0, size);
		parts[i]->attach(memory, parts[i]->nlocks > 0 ? GetNamedLWLockTranche(parts[i]->name) : NULL, !found);
	}
	LWLockRelease(AddinShmemInitLock);
}

/*
 * Add a part, which must stay.  Only while shared_preload_libraries is processed.
 */
void
es_shmem_add(const EsShmemPart *part)
{
	if (nparts == 0)
	{
		prev_shmem_request_hook = shmem_request_hook;
		shmem_request_hook = request_parts;
		prev_shmem_startup_hook = shmem_startup_hook;
		shmem_startup_hook = attach_parts;
	}
	if (nparts == MAX_PARTS)
		elog(ERROR, "too many parts of shared memory");
	parts[nparts++] = part;
}
