/*
 * place.c
 *		Where the rows of streams were seen last, in shared memory.
 *
 * An append, and a read of one stream, begin with the name of the stream and need its row.
 * Who knows the row's place (block and item) need not descend the index on the names.
 *
 * A place told here is a hint, and any hint may be wrong: the row has moved, its
 * transaction was rolled back, another row has the place now, the table is another one.  So
 * whoever follows it looks whether that row is visible to his snapshot and has the name he
 * asks for; if not, he asks the index and writes down what it says (stream.c).  For
 * that reason nothing here is ever invalidated, and nothing waits.
 *
 * A hint is a number of eight bytes: two of the hash of the name, then block and item.  A
 * bucket holds as many as a cache line; the hash says which bucket.  A new hint
 * replaces one with the same two bytes, or takes a free place, or drives any other out.  The
 * memory is a 256th of shared_buffers: a hint for a million streams beside 2 GB.
 *
 * Invariant: a hint is read and written at once.  Two processes that write into a bucket
 * at the same time can lose a hint; no reader sees parts of two.
 *
 * Locks: none.
 * Crash: shared memory is made anew; hints are found again as streams are.
 */
#include "postgres.h"

#include "miscadmin.h"
#include "port/atomics.h"
#include "port/pg_bitutils.h"

#include "core/hash.h"
#include "core/shmem.h"
#include "log/place.h"

#define BUCKET_HINTS	8
#define LEAST_BUCKETS	512
#define MOST_BUCKETS	(1024 * 1024)

#define BITS_OF_PLACE	48

typedef struct EsBucket
{
	pg_atomic_uint64 hints[BUCKET_HINTS];	/* 0: free */
} EsBucket;

static EsBucket *buckets = NULL;
static uint32 nbuckets;			/* a power of two */

static uint32
bucket_count(void)
{
	Size		buffers_a_bucket = 256 * sizeof(EsBucket) / BLCKSZ;
	uint32		wanted = (uint32) Min(NBuffers / buffers_a_bucket, MOST_BUCKETS);

	return pg_prevpower2_32(Max(wanted, LEAST_BUCKETS));
}

static Size
hints_size(void)
{
	/* a line more than needed: the segment's start need not be aligned */
	return mul_size(bucket_count() + 1, sizeof(EsBucket));
}

static void
attach_hints(void *memory, LWLockPadded *locks, bool fresh)
{
	nbuckets = bucket_count();
	buckets = (EsBucket *) TYPEALIGN(sizeof(EsBucket), memory);
	for (uint32 i = 0; fresh && i < nbuckets; i++)
	{
		for (int j = 0; j < BUCKET_HINTS; j++)
			pg_atomic_init_u64(&buckets[i].hints[j], 0);
	}
}

/* Called while shared_preload_libraries is processed. */
void
es_place_init(void)
{
	static const EsShmemPart part = {
		"eventstore places", hints_size, NULL, 0, attach_hints
	};

	es_shmem_add(&part);
}

/* What a hint is found by: the databases of a server share the memory. */
uint64
es_place_hash(Oid table, EsName name)
{
	return es_hash_bytes(name.bytes, name.len, ((uint64) MyDatabaseId << 32) | table);
}

static EsBucket *
bucket_of(uint64 hash)
{
	return &buckets[hash & (nbuckets - 1)];
}

/* The two bytes of the hash, where they stand in a hint. */
static uint64
mark_of(uint64 hash)
{
	return hash >> BITS_OF_PLACE << BITS_OF_PLACE;
}

static bool
is_marked(uint64 hint, uint64 mark)
{
	return hint != 0 && mark_of(hint) == mark;
}

/*
 * Where the row may be.  Nothing is known of it, not even that there is such a block.
 */
bool
es_place_recall(uint64 hash, ItemPointer place)
{
	EsBucket   *bucket;

	if (buckets == NULL)
		return false;
	bucket = bucket_of(hash);
	for (int i = 0; i < BUCKET_HINTS; i++)
	{
		uint64		hint = pg_atomic_read_u64(&bucket->hints[i]);

		if (is_marked(hint, mark_of(hash)))
		{
			ItemPointerSet(place, (BlockNumber) (hint >> 16), (OffsetNumber) hint);
			return true;
		}
	}
	return false;
}

/* Write down where the row is. */
void
es_place_remember(uint64 hash, const ItemPointerData *place)
{
	static uint32 driven_out = 0;
	uint64		mark = mark_of(hash);
	uint64		hint = mark | (uint64) ItemPointerGetBlockNumber(place) << 16 | ItemPointerGetOffsetNumber(place);
	EsBucket   *bucket;
	int			chosen = -1;

	if (buckets == NULL)
		return;
	bucket = bucket_of(hash);
	for (int i = 0; i < BUCKET_HINTS; i++)
	{
		uint64		other = pg_atomic_read_u64(&bucket->hints[i]);

		if (other == hint)
			return;
		if (is_marked(other, mark))
		{
			chosen = i;
			break;
		}
		if (other == 0 && chosen < 0)
			chosen = i;
	}
	if (chosen < 0)
		chosen = driven_out++ % BUCKET_HINTS;
	pg_atomic_write_u64(&bucket->hints[chosen], hint);
}
