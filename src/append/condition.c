/*
 * condition.c
 *		Appends on condition that nothing which matters was added meanwhile: dynamic
 *		consistency boundaries.
 *
 *	1 the call's locks are taken, before streams and positions;
 *	2 as things stand then: does a matching event stand beyond "after"?
 *
 * The locks.  An appended event locks each of its tags, shared.  An item of a condition
 * locks one of its tags, exclusively: an event that it matches bears that tag, so
 * whoever appends one waits, or has ended before the condition is checked.  Items with
 * different tags do not wait for each other.  For what no tag stands for there is the
 * lock of eventstore.append_lock: every append takes it RowExclusive, and one with an
 * item without tags, or with more tags than MAX_TAGS, Exclusive, which keeps all others
 * out.  No locks on types: each would be one that every append needs.
 *
 * Tags are locked as advisory locks are, in a class of their own that no SQL function
 * can reach, by their hash: two that share one wait for each other, and no more.
 *
 * Invariants
 * 1. Locks are taken before a position is drawn, and held until the transaction ends
 *    (or ROLLBACK TO takes back what they were taken for).  So of two appends of which
 *    one could fail the other's condition, the one with the lower position has ended
 *    before the other looks.
 * 2. The look is as of this moment (SnapshotSelf), at every isolation level, and sees
 *    the transaction's own events.  Events that have been taken away count as little
 *    as es_query() shows them.
 * 3. A call takes append_lock in the stronger mode at once, tags in the order of their
 *    hashes, exclusive where it needs both modes.  Two transactions of several calls
 *    can still deadlock, as with any rows (40P01).
 * 4. A transaction that would lock more than MAX_TAGS different tags in its calls takes
 *    append_lock Exclusive instead of the rest: the lock table is not filled by a long
 *    import.
 *
 * A BEFORE trigger that adds tags is too late for (1): its tags are locked when its
 * position is drawn, so that conditions hold in the order of commits, but an event may
 * have a lower position than one that was appended on condition that there is none.
 *
 * Lock order: event_log, append_lock, tags, stream.
 * Crash: locks vanish with the transaction.
 */
#include "postgres.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"

#include "append/condition.h"
#include "compat/compat.h"
#include "core/errors.h"
#include "core/json.h"
#include "log/dictionary.h"
#include "log/event.h"
#include "log/head.h"
#include "streams/visible.h"

/* Tags that a call, or a transaction, locks one by one. */
#define MAX_TAGS		64

/* The server's own advisory locks are of class 1 and 2 (utils/adt/lockfuncs.c). */
#define LOCK_CLASS		0xe5

/* Tags locked in this transaction; those of rolled-back savepoints count, too. */
static int	tags_locked = 0;
static LocalTransactionId counted_in = InvalidLocalTransactionId;

typedef struct TagLock
{
	int64		hash;
	LOCKMODE	mode;
} TagLock;

/* ---- the argument ---- */

static void
refuse(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", what),
			 errhint("A condition is like {\"query\": [{\"tags\": [\"course:1\"]}], \"after\": 4711}.")));
}

/* The position that a condition begins after. */
static int64
parse_after(const JsonbValue *value)
{
	int64		after;

	if (!es_json_whole_number(value, &after) || after < 0)
		refuse("\"after\" of a condition must be a position");
	return after;
}

/*
 * The condition of a call; NULL: none.
 */
const EsCondition *
es_condition_argument(FunctionCallInfo fcinfo, int argno)
{
	EsCondition *condition;
	Jsonb	   *json;
	JsonbIterator *iterator;
	JsonbValue	key;
	JsonbValue	value;

	if (PG_ARGISNULL(argno))
		return NULL;
	json = PG_GETARG_JSONB_P(argno);
	if (!JB_ROOT_IS_OBJECT(json))
		refuse("condition must be a JSON object");
	condition = palloc0(sizeof(EsCondition));
	iterator = JsonbIteratorInit(&json->root);
	(void) JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (es_json_key_is(&key, "after"))
			condition->after = value.type == jbvNull ? 0 : parse_after(&value);
		else if (!es_json_key_is(&key, "query"))
			refuse(psprintf("unknown key \"%.*s\" in a condition", key.val.string.len, key.val.string.val));
		else if (value.type != jbvBinary)
			refuse("\"query\" of a condition must be an array");
		else
			condition->query = es_query_parse(value.val.binary.data);
	}
	if (condition->query == NULL)
		refuse("a condition needs a \"query\"");
	return condition;
}

/* ---- locks ---- */

static LOCKTAG
lock_of(int64 hash)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) ((uint64) hash >> 32), (uint32) hash, LOCK_CLASS);
	return tag;
}

static bool
holds_all(const EsCatalog *cat)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, cat->append_lock);
	return es_compat_holds_lock(&tag, ExclusiveLock);
}

/* May so many more tags be locked one by one (4)? */
static bool
has_room_for(int n)
{
	if (counted_in != es_compat_my_lxid())
	{
		counted_in = es_compat_my_lxid();
		tags_locked = 0;
	}
	tags_locked += n;
	return tags_locked <= MAX_TAGS;
}

static int
compare_locks(const void *a, const void *b)
{
	const TagLock *x = a;
	const TagLock *y = b;

	if (x->hash != y->hash)
		return x->hash < y->hash ? -1 : 1;
	return y->mode - x->mode;	/* the stronger first (3) */
}

/* Leave out what is twice, and what the transaction holds already. */
static int
still_wanted(TagLock *locks, int n)
{
	int			kept = 0;

	qsort(locks, n, sizeof(TagLock), compare_locks);
	for (int i = 0; i < n; i++)
	{
		LOCKTAG		tag = lock_of(locks[i].hash);

		if (i > 0 && locks[i].hash == locks[i - 1].hash)
			continue;
		if (!es_compat_holds_lock(&tag, locks[i].mode) && !es_compat_holds_lock(&tag, ExclusiveLock))
			locks[kept++] = locks[i];
	}
	return kept;
}

static void
lock_tags(const TagLock *locks, int n)
{
	for (int i = 0; i < n; i++)
	{
		LOCKTAG		tag = lock_of(locks[i].hash);

		(void) LockAcquire(&tag, locks[i].mode, false, false);
	}
}

/* Of all tags of an item the one with the least hash, for every call the same. */
static int64
least_hash(const EsQueryItem *item)
{
	int64		least = item->hashes[0];

	for (int i = 1; i < item->ntags; i++)
		least = Min(least, item->hashes[i]);
	return least;
}

static bool
has_item_without_tags(const EsCondition *condition)
{
	for (int i = 0; condition != NULL && i < condition->query->nitems; i++)
	{
		if (condition->query->items[i].ntags == 0)
			return true;
	}
	return false;
}

static int
count_locks(const EsAppend *call)
{
	int			n = call->condition != NULL ? call->condition->query->nitems : 0;

	for (int i = 0; i < call->nevents; i++)
		n += call->events[i].ntags;
	return n;
}

/* The tags of the call's events, shared, and one of each item of its condition, exclusively. */
static TagLock *
wanted_locks(const EsAppend *call, int *n)
{
	TagLock    *locks = MemoryContextAllocHuge(CurrentMemoryContext,
											   sizeof(TagLock) * Max(count_locks(call), 1));

	*n = 0;
	for (int i = 0; call->condition != NULL && i < call->condition->query->nitems; i++)
		locks[(*n)++] = (TagLock) {least_hash(&call->condition->query->items[i]), ExclusiveLock};
	for (int i = 0; i < call->nevents; i++)
	{
		const EsEvent *event = &call->events[i];

		for (int j = 0; j < event->ntags; j++)
			locks[(*n)++] = (TagLock) {event->tag_hashes[j], ShareLock};
	}
	*n = still_wanted(locks, *n);
	return locks;
}

/*
 * Take the locks of a call.  event_log is locked, no stream is yet.
 */
void
es_condition_lock(const EsAppend *call, const EsCatalog *cat)
{
	TagLock    *locks = NULL;
	int			n = 0;
	bool		all = has_item_without_tags(call->condition);

	if (!all && (call->condition != NULL || es_append_bears_tags(call)) && !holds_all(cat))
	{
		locks = wanted_locks(call, &n);
		all = n > 0 && !has_room_for(n);
	}
	LockRelationOid(cat->append_lock, all ? ExclusiveLock : RowExclusiveLock);
	if (!all)
		lock_tags(locks, n);
	if (locks != NULL)
		pfree(locks);
}

/* Take those of the tags that a trigger has given to an event. */
void
es_condition_lock_tags(const EsCatalog *cat, const EsEvent *event)
{
	TagLock    *locks = palloc(sizeof(TagLock) * Max(event->ntags, 1));
	int			n;

	for (int i = 0; i < event->ntags; i++)
		locks[i] = (TagLock) {event->tag_hashes[i], ShareLock};
	n = still_wanted(locks, event->ntags);
	if (n > 0 && !holds_all(cat))
	{
		if (has_room_for(n))
			lock_tags(locks, n);
		else
			LockRelationOid(cat->append_lock, ExclusiveLock);
	}
	pfree(locks);
}

/* ---- the look ---- */

static void
raise_failed(const EsCatalog *cat, TupleTableSlot *event)
{
	int64		position = es_log_number(event, ES_LOG_COL_POSITION);
	const EsEventType *type = es_dictionary_entry(cat, es_log_number(event, ES_LOG_COL_TYPE_KEY));

	ereport(ERROR,
			(errcode(ES_CONDITION_FAILED),
			 errmsg("append condition failed"),
			 errdetail("position: %lld, type: " ES_NAME_FORMAT, (long long) position, ES_NAME_ARGS(type->type)),
			 errhint("Wait for that position with es_wait(), query again, decide again, append again.")));
}

/*
 * Raise SE004 if a matching event stands beyond "after" (2).
 */
void
es_condition_check(const EsAppend *call, const EsCatalog *cat)
{
	EsRange		positions = {0, PG_INT64_MAX, false};
	EsMatches  *matches;
	EsVisible  *visible;
	TupleTableSlot *event;

	if (call->condition == NULL)
		return;
	es_head_refuse_ahead(cat, call->condition->after);
	visible = es_visible_open(cat, SnapshotSelf);
	positions.after = call->condition->after;
	matches = es_matches_open(cat, call->condition->query, SnapshotSelf, positions);
	while ((event = es_matches_next(matches)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (visible == NULL || es_visible_shows(visible, event))
			raise_failed(cat, event);
	}
	es_matches_close(matches);
	es_visible_close(visible);
}
