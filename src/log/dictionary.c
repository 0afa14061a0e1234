/*
 * dictionary.c
 *		The keys that stand for (category, type, schema version, content type) in the log.
 *
 * An event holds an eight-byte key instead of these names, and one index on
 * (type_key, position) serves the reads by category and by type.  A type whose events
 * have no content type, or always the same, has no more keys for it.
 *
 * A key is a hash of its content (format.h).  So two transactions that use a new type at
 * the same time need not wait for each other: each adds a row of its own, and
 * both rows say the same.  There is no unique index.  A row with the same key and
 * other content is a collision; the next hash is tried.
 *
 * The first ES_OWN_CATEGORIES categories have keys of their own.  Those that come
 * later share, by a hash of their name, one of ES_BUCKETS buckets, and a reader
 * tells them apart by the event's stream: a million streams, each its own
 * category, make some hundred keys, not a million.  A category can have keys of
 * both kinds (the count is looked at without a lock), so a reader of a category
 * takes both.
 *
 * A reader asks for the keys of the categories and types that it filters by; an
 * index on each of these columns answers, so that the size of the dictionary does
 * not matter.
 *
 * Invariants
 * 1. A row is never changed or removed, so what a committed row says may be
 *    cached as long as the store is the same (es_catalog_generation).
 * 2. In REPEATABLE READ the row of a type may be younger than the transaction's
 *    snapshot, in which nobody could read the event then.  The transaction adds a
 *    row of its own, as it does beside one that is not committed.  What is cached
 *    was committed before any snapshot that was taken since.
 * 3. Only rows seen committed are cached.  A row of one's own transaction is
 *    looked up each time: after ROLLBACK TO it must be added again, or the events
 *    appended then would point at nothing.
 * 4. The row of a type commits no later than the first event that uses it.
 *
 * Lock order: event_log, event_type.
 * Crash: rows belong to their transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "compat/compat.h"
#include "core/hash.h"
#include "core/lookup.h"
#include "core/target.h"
#include "log/dictionary.h"
#include "log/format.h"
#include "log/seal.h"

#define ES_OWN_CATEGORIES	1000

/* Most entries that a backend keeps; then it empties its caches. */
#define CACHE_LIMIT			4096

/*
 * All caches of the dictionary, in a context of their own.  "by_content" maps
 * the first hash of a content to its entry, "by_key" the key.
 */
static MemoryContext cache_context = NULL;
static uint64 cache_generation = 0;
static HTAB *by_content = NULL;
static HTAB *by_key = NULL;
static HTAB *own_categories = NULL;

typedef struct ContentEntry
{
	uint64		hash;
	EsEventType type;
} ContentEntry;

static HTAB *
make_table(const char *name, Size keysize, Size entrysize)
{
	HASHCTL		ctl = {0};

	ctl.keysize = keysize;
	ctl.entrysize = entrysize;
	ctl.hcxt = cache_context;
	return hash_create(name, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
}

/* Empty the caches if they belong to another store or have grown too large. */
static void
check_caches(void)
{
	if (cache_context != NULL && cache_generation == es_catalog_generation() &&
		hash_get_num_entries(by_content) < CACHE_LIMIT &&
		hash_get_num_entries(by_key) < CACHE_LIMIT)
		return;

	if (cache_context == NULL)
		cache_context = AllocSetContextCreate(TopMemoryContext, "eventstore dictionary",
											  ALLOCSET_DEFAULT_SIZES);
	else
		MemoryContextReset(cache_context);
	cache_generation = 0;		/* until all of them are there */
	by_content = make_table("eventstore types by content", sizeof(uint64), sizeof(ContentEntry));
	by_key = make_table("eventstore types by key", sizeof(int64), sizeof(EsEventType));
	own_categories = make_table("eventstore categories", sizeof(uint64), sizeof(uint64));
	cache_generation = es_catalog_generation();
}

static EsName
copy_name(MemoryContext context, EsName name)
{
	EsName		copy = {"", 0};

	if (name.len > 0)
	{
		char	   *bytes = MemoryContextAlloc(context, name.len);

		memcpy(bytes, name.bytes, name.len);
		copy.bytes = bytes;
		copy.len = name.len;
	}
	return copy;
}

static EsEventType
copy_type(MemoryContext context, const EsEventType *type)
{
	EsEventType copy = *type;

	copy.category = copy_name(context, type->category);
	copy.type = copy_name(context, type->type);
	copy.content_type = copy_name(context, type->content_type);
	return copy;
}

static Datum
name_datum(EsName name)
{
	return PointerGetDatum(cstring_to_text_with_len(name.bytes, name.len));
}

static bool
same_content(const EsEventType *a, const EsEventType *b)
{
	return a->shared == b->shared &&
		(a->shared ? a->bucket == b->bucket : es_name_equal(a->category, b->category)) &&
		es_name_equal(a->type, b->type) &&
		a->schema_version == b->schema_version &&
		es_name_equal(a->content_type, b->content_type);
}

/* The key that a content has at the n-th attempt. */
static uint64
content_hash(const EsEventType *type, int attempt)
{
	return (uint64) (type->shared ?
					 es_format_bucket_key(type->bucket, type->type, type->schema_version,
										  type->content_type, attempt) :
					 es_format_category_key(type->category, type->type, type->schema_version,
											type->content_type, attempt));
}

static void
read_slot(TupleTableSlot *slot, EsEventType *type)
{
	slot_getallattrs(slot);
	memset(type, 0, sizeof(*type));
	type->key = DatumGetInt64(slot->tts_values[ES_TYPE_COL_KEY - 1]);
	type->shared = !slot->tts_isnull[ES_TYPE_COL_BUCKET - 1];
	if (type->shared)
		type->bucket = DatumGetInt32(slot->tts_values[ES_TYPE_COL_BUCKET - 1]);
	else
		type->category = es_name_from_text(slot->tts_values[ES_TYPE_COL_CATEGORY - 1]);
	type->type = es_name_from_text(slot->tts_values[ES_TYPE_COL_TYPE - 1]);
	type->schema_version = DatumGetInt32(slot->tts_values[ES_TYPE_COL_SCHEMA_VERSION - 1]);
	type->content_type = slot->tts_isnull[ES_TYPE_COL_CONTENT_TYPE - 1] ? ES_NAME_NONE :
		es_name_from_text(slot->tts_values[ES_TYPE_COL_CONTENT_TYPE - 1]);
}

/* The snapshot that the transaction keeps; NULL: each statement has its own. */
static Snapshot
lasting_snapshot(void)
{
	return IsolationUsesXactSnapshot() ? GetTransactionSnapshot() : NULL;
}

typedef enum RowState
{
	ROW_NONE,					/* no row with that key */
	ROW_PENDING,				/* of another transaction in progress, or
								 * younger than the snapshot (2) */
	ROW_OWN,					/* of this transaction */
	ROW_COMMITTED
} RowState;

/*
 * Look at the rows with a key, also at those not committed yet: the firmest one
 * is left in *slot, and its state is returned.  All rows of a key have the same
 * content, for nobody adds one whose content differs from one seen here; only two
 * transactions that at the same moment add two contents whose 64-bit hashes
 * collide could break that.
 */
static RowState
find_type_row(Relation rel, Relation index, int64 key, TupleTableSlot *slot)
{
	SnapshotData dirty;
	ScanKeyData scankey;
	IndexScanDesc scan;
	TupleTableSlot *candidate = table_slot_create(rel, NULL);
	RowState	found = ROW_NONE;
	Snapshot	lasting = lasting_snapshot();

	InitDirtySnapshot(dirty);
	ScanKeyInit(&scankey, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(key));
	scan = es_compat_index_beginscan(rel, index, &dirty, 1);
	index_rescan(scan, &scankey, 1, NULL, 0);
	while (found != ROW_COMMITTED && index_getnext_slot(scan, ForwardScanDirection, candidate))
	{
		RowState	state;
		bool		isnull;

		if (TransactionIdIsValid(dirty.xmin))
			state = ROW_PENDING;
		else if (TransactionIdIsCurrentTransactionId(DatumGetTransactionId(slot_getsysattr(candidate, MinTransactionIdAttributeNumber, &isnull))))
			state = ROW_OWN;
		else if (lasting != NULL && !table_tuple_satisfies_snapshot(rel, candidate, lasting))
			state = ROW_PENDING;
		else
			state = ROW_COMMITTED;
		if (state > found)
		{
			found = state;
			ExecCopySlot(slot, candidate);
		}
	}
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(candidate);
	return found;
}

/* A column that somebody has added to the table stays NULL. */
static void
insert_type_row(Relation rel, const EsEventType *type)
{
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), table_slot_callbacks(rel));
	EsTarget	target = es_target_open(rel);
	Datum	   *values = slot->tts_values;
	bool	   *isnull = slot->tts_isnull;

	memset(isnull, true, sizeof(bool) * slot->tts_tupleDescriptor->natts);
	values[ES_TYPE_COL_KEY - 1] = Int64GetDatum(type->key);
	values[ES_TYPE_COL_CATEGORY - 1] = type->shared ? (Datum) 0 : name_datum(type->category);
	values[ES_TYPE_COL_BUCKET - 1] = Int32GetDatum(type->bucket);
	values[ES_TYPE_COL_TYPE - 1] = name_datum(type->type);
	values[ES_TYPE_COL_SCHEMA_VERSION - 1] = Int32GetDatum(type->schema_version);
	values[ES_TYPE_COL_CONTENT_TYPE - 1] = name_datum(type->content_type);
	memset(isnull, false, sizeof(bool) * ES_TYPE_COLS);
	isnull[ES_TYPE_COL_CATEGORY - 1] = type->shared;
	isnull[ES_TYPE_COL_BUCKET - 1] = !type->shared;
	isnull[ES_TYPE_COL_CONTENT_TYPE - 1] = type->content_type.len == 0;
	ExecStoreVirtualTuple(slot);

	ExecOpenIndices(target.relinfo, false);
	simple_table_tuple_insert(rel, slot);
	list_free(es_compat_index_inserted(target.relinfo, slot, target.estate, NULL, NIL));
	ExecCloseIndices(target.relinfo);
	es_target_close(&target);
	ExecDropSingleTupleTableSlot(slot);
	CommandCounterIncrement();
}

static void
cache_content(uint64 hash, const EsEventType *type)
{
	EsEventType copy;
	ContentEntry *entry;

	if (hash_search(by_content, &hash, HASH_FIND, NULL) != NULL)
		return;
	/* copied first: running out of memory must not leave half an entry */
	copy = copy_type(cache_context, type);
	entry = hash_search(by_content, &hash, HASH_ENTER, NULL);
	entry->type = copy;
}

/*
 * Add a row for a content that has none, or find the one there is.  The key that
 * it got is set in type->key.
 */
static void
find_or_insert(const EsCatalog *cat, EsEventType *type)
{
	Relation	rel = table_open(cat->event_type, RowExclusiveLock);
	Relation	index;
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);

	es_catalog_refresh();
	index = index_open(cat->event_type_key, RowExclusiveLock);
	type->key = 0;
	for (int attempt = 0;; attempt++)
	{
		int64		key = (int64) content_hash(type, attempt);
		RowState	state = find_type_row(rel, index, key, slot);
		EsEventType row;

		if (state != ROW_NONE)
		{
			read_slot(slot, &row);
			if (!same_content(&row, type))
				continue;		/* a collision */
		}
		if (state == ROW_NONE || state == ROW_PENDING)
		{
			type->key = key;
			insert_type_row(rel, type);
		}
		else
		{
			type->key = key;
			if (state == ROW_COMMITTED)
				cache_content(content_hash(type, 0), type);
		}
		break;
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, NoLock);
	table_close(rel, NoLock);
}

/* Learn the categories that have keys of their own. */
static void
learn_categories(const EsCatalog *cat)
{
	Relation	rel = table_open(cat->event_type, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	/* leaves no predicate lock: see stream.c (2) */
	TableScanDesc scan = table_beginscan(rel, SnapshotSelf, 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		EsEventType row;

		CHECK_FOR_INTERRUPTS();
		read_slot(slot, &row);
		if (!row.shared)
		{
			uint64		hash = es_hash_name(row.category, 0);

			(void) hash_search(own_categories, &hash, HASH_ENTER, NULL);
		}
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
}

/*
 * May this category have keys of its own?  Only asked when a type is new to this
 * backend, and read from the table only while there are few categories.
 */
static bool
category_is_own(const EsCatalog *cat, EsName category)
{
	uint64		hash = es_hash_name(category, 0);

	if (hash_search(own_categories, &hash, HASH_FIND, NULL) != NULL)
		return true;
	if (hash_get_num_entries(own_categories) < ES_OWN_CATEGORIES)
		learn_categories(cat);
	return hash_search(own_categories, &hash, HASH_FIND, NULL) != NULL ||
		hash_get_num_entries(own_categories) < ES_OWN_CATEGORIES;
}

static bool
find_cached(EsEventType *type)
{
	uint64		hash = content_hash(type, 0);
	ContentEntry *entry = hash_search(by_content, &hash, HASH_FIND, NULL);

	if (entry == NULL || !same_content(&entry->type, type))
		return false;
	type->key = entry->type.key;
	return true;
}

/*
 * The key to store with an event, adding a row to the dictionary if need be.
 */
int64
es_dictionary_key(const EsCatalog *cat, EsName category, EsName type, int32 schema_version,
				  EsName content_type)
{
	EsEventType own = {0};
	EsEventType shared = {0};

	check_caches();
	own.category = category;
	own.type = shared.type = type;
	own.schema_version = shared.schema_version = schema_version;
	own.content_type = shared.content_type = content_type;
	if (find_cached(&own))
		return own.key;

	if (category_is_own(cat, category))
	{
		find_or_insert(cat, &own);
		return own.key;
	}
	shared.shared = true;
	shared.bucket = es_format_bucket(category);
	if (find_cached(&shared))
		return shared.key;
	find_or_insert(cat, &shared);
	return shared.key;
}

/*
 * What a key stands for.  The result is valid until the next call.
 */
const EsEventType *
es_dictionary_entry(const EsCatalog *cat, int64 key)
{
	static EsEventType uncached;
	EsEventType *entry;
	Relation	rel;
	Relation	index;
	TupleTableSlot *slot;
	RowState	state;

	check_caches();
	entry = hash_search(by_key, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;

	rel = table_open(cat->event_type, AccessShareLock);
	es_catalog_refresh();
	index = index_open(cat->event_type_key, AccessShareLock);
	slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
	state = find_type_row(rel, index, key, slot);
	if (state == ROW_NONE)
	{
		es_seal_refuse_unrestored(cat);
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the log refers to an event type that is missing: %lld", (long long) key),
				 errhint("A row of eventstore.event_type has been removed, or was not restored.")));
	}
	read_slot(slot, &uncached);
	if (state == ROW_COMMITTED)
	{
		EsEventType copy = copy_type(cache_context, &uncached);

		entry = hash_search(by_key, &key, HASH_ENTER, NULL);
		*entry = copy;
	}
	else
	{
		uncached = copy_type(CurrentMemoryContext, &uncached);
		entry = &uncached;
	}
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
	table_close(rel, AccessShareLock);
	return entry;
}

static void
add_slot(EsEventTypes *list, TupleTableSlot *slot)
{
	EsEventType row;

	CHECK_FOR_INTERRUPTS();
	if (list->n == list->capacity)
	{
		list->capacity = Max(2 * list->capacity, 16);
		list->types = list->types == NULL ?
			palloc(sizeof(EsEventType) * list->capacity) :
			repalloc_huge(list->types, sizeof(EsEventType) * list->capacity);
	}
	read_slot(slot, &row);
	/* the slot's page is left behind with the next row */
	list->types[list->n++] = copy_type(CurrentMemoryContext, &row);
}

/* Add the rows that an index finds by one value of its only column. */
static void
collect_types(Relation rel, Oid index_oid, Snapshot snapshot, RegProcedure equal, Datum value,
			  EsEventTypes *found)
{
	Relation	index = index_open(index_oid, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	IndexScanDesc scan = es_compat_index_beginscan(rel, index, snapshot, 1);
	ScanKeyData key;

	ScanKeyEntryInitialize(&key, 0, 1, BTEqualStrategyNumber, InvalidOid,
						   index->rd_indcollation[0], equal, value);
	index_rescan(scan, &key, 1, NULL, 0);
	while (index_getnext_slot(scan, ForwardScanDirection, slot))
		add_slot(found, slot);
	index_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	index_close(index, AccessShareLock);
}

/*
 * The entries of a category, and those of the bucket that it may be in, as the
 * snapshot sees them.  Two rows can say the same.
 */
void
es_dictionary_of_category(const EsCatalog *cat, Snapshot snapshot,
						  EsName category, EsEventTypes *found)
{
	Relation	rel = table_open(cat->event_type, AccessShareLock);

	es_catalog_refresh();
	collect_types(rel, cat->event_type_category, snapshot, F_TEXTEQ, name_datum(category), found);
	collect_types(rel, cat->event_type_bucket, snapshot, F_INT4EQ,
				  Int32GetDatum(es_format_bucket(category)), found);
	table_close(rel, AccessShareLock);
}

/* The entries of a type in all categories, likewise. */
void
es_dictionary_of_type(const EsCatalog *cat, Snapshot snapshot,
					  EsName type, EsEventTypes *found)
{
	Relation	rel = table_open(cat->event_type, AccessShareLock);

	es_catalog_refresh();
	collect_types(rel, cat->event_type_type, snapshot, F_TEXTEQ, name_datum(type), found);
	table_close(rel, AccessShareLock);
}

/*
 * Does any event, as far as is known, have this type?  As of this moment, whatever the
 * isolation level, and own uncommitted events count.  Leaves no predicate lock: see
 * stream.c (2).
 */
bool
es_dictionary_has_type(const EsCatalog *cat, EsName type)
{
	EsLookup   *lookup = es_lookup_open(cat->event_type, &cat->event_type_type, SnapshotSelf);
	bool		found = es_lookup_name(lookup, type) != NULL;

	es_lookup_close(lookup);
	return found;
}

/* Does it hold no type at all?  Likewise. */
bool
es_dictionary_is_empty(const EsCatalog *cat)
{
	Relation	rel = table_open(cat->event_type, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	TableScanDesc scan = table_beginscan(rel, SnapshotSelf, 0, NULL);
	bool		found = table_scan_getnextslot(scan, ForwardScanDirection, slot);

	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);
	return !found;
}
