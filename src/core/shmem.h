/*
 * shmem.h
 *		Parts of shared memory.
 */
#ifndef ES_SHMEM_H
#define ES_SHMEM_H

#include "postgres.h"

#include "storage/lwlock.h"

/* A part of shared memory; it begins as zeros. */
typedef struct EsShmemPart
{
	const char *name;			/* also of its tranche of LWLocks */
	Size		(*size) (void);
	Size		(*more) (void); /* what the part takes besides, for hash tables; or NULL */
	int			nlocks;
	/* where it is: in every process; "fresh": nobody has set it up yet */
	void		(*attach) (void *memory, LWLockPadded *locks, bool fresh);
} EsShmemPart;

extern void es_shmem_add(const EsShmemPart *part);

#endif							/* ES_SHMEM_H */
