/*
 * condition.c
 *		Appends on condition that nothing which matters was added meanwhile: dynamic
 *		consistency boundaries.
 *
 *	1 the call's locks are taken, before streams and positions;
 *	2 under them: does a matching event stand beyond "after"?
 *
 * If a lock of step 1 is held by somebody else, the call looks for a match up to the head
 * before it waits: a call that fails already need not wait for that.
 *
 * The locks.  An appended event locks each of its tags, shared.  An item of a condition
 * locks one of its tags, exclusively: an event that it matches bears that tag, so
 * whoever appends one waits, or has ended before the condition is checked.  Items with
 * different tags do not wait for each other.  For items without tags there is the lock of
 * eventstore.append_lock: every append takes it RowExclusive, and one with such an item, or
 * with more tags than MAX_TAGS, Exclusive, which keeps all others out.  Types are not
 * locked: every append would need the lock of one.
 *
 * Tags are locked as advisory locks are, in a class of their own that no SQL function
 * can reach, by their hash: two tags with the same hash only wait for each other.
 *
 * Invariants
 * 1. Locks are taken before a position is drawn, and held until the transaction ends
 *    (or ROLLBACK TO takes back what they were taken for).  So of two appends of which
 *    one could fail the other's condition, the one with the lower position has ended
 *    before the other looks.
 * 2. The look is as of this moment (SnapshotSelf), at every isolation level, and sees
 *    the transaction's own events.  Events that have been taken away do not count, as
 *    es_query() does not show them.  Only the look under the locks lets a call pass; the
 *    look before the wait can only fail it.
 * 3. A call takes append_lock in the stronger mode at once, tags in the order of their
 *    hashes, exclusive where it needs both modes.  Two transactions of several calls
 *    can still deadlock, as with any rows (40P01).
 * 4. A transaction that would lock more than MAX_TAGS different tags in its calls takes
 *    append_lock Exclusive instead of the rest: the lock table is not filled by a long
 *    import.
 * 5. A call that may be a repetition is not failed before the wait: its own event may be
 *    what matches, and it is answered as a duplicate.  The match is found first, then its
 *    ids are looked for.  An earlier attempt of the call with this condition has ended by
 *    then: had it passed its own look, whoever appended the match waited for its end.
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
#include "append/idempotency.h"
#include "compat/compat.h"
#include "core/errors.h"
#include "core/json.h"
#include "log/dictionary.h"
#include "log/event.h"
#include "log/head.h"
#include "read/filter.h"
#include "streams/visible.h"

/* Most tags that a call, or a transaction, locks one by one. */
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
refuse_condition(const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("%s", what),
			 errhint("A condition is like {\"query\": [{\"tags\": [\"course:1\"]}], \"after\": 4711}.")));
}

static bool
is_string_of_digits(const JsonbValue *value)
{
	EsName		string;

	if (value->type != jbvString)
		return false;
	string = es_json_string(value);
	return string.len > 0 && strspn(pnstrdup(string.bytes, string.len), "0123456789") == string.len;
}

/* The position that a condition begins after. */
static int64
parse_after(const JsonbValue *value)
{
	int64		after;

	if (is_string_of_digits(value))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("\"after\" of a condition must be a position"),
				 errdetail("It is a string."),
				 errhint("Write the number without quotes. What a driver returns for a bigint may be a string, as with node-postgres: "
						 "convert it before it goes into the JSON.")));
	if (!es_json_whole_number(value, &after) || after < 0)
		refuse_condition("\"after\" of a condition must be a position");
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
		refuse_condition("condition must be a JSON object");
	condition = palloc0(sizeof(EsCondition));
	iterator = JsonbIteratorInit(&json->root);
	(void) JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		if (es_json_key_is(&key, "after"))
			condition->after = value.type == jbvNull ? 0 : parse_after(&value);
		else if (!es_json_key_is(&key, "query"))
			refuse_condition(psprintf("unknown key \"%.*s\" in a condition", key.val.string.len, key.val.string.val));
		else if (value.type != jbvBinary)
			refuse_condition("\"query\" of a condition must be an array");
		else
			condition->query = es_query_parse(value.val.binary.data);
	}
	if (condition->query == NULL)
		refuse_condition("a condition needs a \"query\"");
	return condition;
}

/* ---- the look ---- */

/* An event that fails the condition. */
typedef struct Conflict
{
	int64		position;
	int64		type_key;
} Conflict;

static void
raise_failed(const EsCatalog *cat, const Conflict *conflict)
{
	const EsEventType *type = es_dictionary_entry(cat, conflict->type_key);

	ereport(ERROR,
			(errcode(ES_CONDITION_FAILED),
			 errmsg("append condition failed"),
			 errdetail("position: %lld, type: " ES_NAME_FORMAT, (long long) conflict->position,
					   ES_NAME_ARGS(type->type)),
			 errhint("Wait for that position with es_wait(), query again, decide again, append again.")));
}

/* Does a matching event stand beyond "after", up to a position (2)? */
static bool
find_conflict(const EsCondition *condition, const EsCatalog *cat, int64 upto, Conflict *conflict)
{
	EsRange		positions = {condition->after, upto, false};
	EsVisible  *visible = es_visible_open(cat, SnapshotSelf);
	EsFilter	filter = {.query = condition->query};
	EsMatches  *matches = es_matches_open(cat, &filter, es_upcasts_begin(cat), SnapshotSelf, positions);
	TupleTableSlot *event;
	bool		found = false;

	while (!found && (event = es_matches_next(matches)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (visible != NULL && !es_visible_shows(visible, event))
			continue;
		conflict->position = es_log_number(event, ES_LOG_COL_POSITION);
		conflict->type_key = es_log_number(event, ES_LOG_COL_TYPE_KEY);
		found = true;
	}
	es_matches_close(matches);
	es_visible_close(visible);
	return found;
}

/*
 * Raise SE004 if a matching event stands beyond "after".  The locks have been taken.
 */
void
es_condition_check(const EsAppend *call, const EsCatalog *cat)
{
	Conflict	conflict;

	if (call->condition == NULL)
		return;
	es_head_refuse_ahead(cat, call->condition->after);
	if (find_conflict(call->condition, cat, PG_INT64_MAX, &conflict))
		raise_failed(cat, &conflict);
}

/*
 * The same before the locks are taken.  A match stays a match; finding none proves nothing.
 * Events beyond the head are left out: the caller could not have read them yet, so the call
 * waits instead.
 */
static void
fail_at_once(const EsAppend *call, const EsCatalog *cat, Relation log)
{
	Conflict	conflict;

	if (find_conflict(call->condition, cat, es_head_glance(cat), &conflict) &&
		!es_idempotency_may_repeat(call, cat, log)) /* (5) */
		raise_failed(cat, &conflict);
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

/* May n more tags be locked one by one (4)? */
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

/* Leave out locks that are listed twice, or that the transaction holds already. */
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

/* False: one of them could not be taken without waiting. */
static bool
lock_tags(const TagLock *locks, int n, bool wait)
{
	for (int i = 0; i < n; i++)
	{
		LOCKTAG		tag = lock_of(locks[i].hash);

		if (LockAcquire(&tag, locks[i].mode, false, !wait) == LOCKACQUIRE_NOT_AVAIL)
			return false;
	}
	return true;
}

/* Take append_lock in a mode, then the tags' locks.  False as above. */
static bool
take_locks(const EsCatalog *cat, LOCKMODE mode, const TagLock *locks, int n, bool wait)
{
	if (wait)
		LockRelationOid(cat->append_lock, mode);
	else if (!ConditionalLockRelationOid(cat->append_lock, mode))
		return false;
	return lock_tags(locks, n, wait);
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
 * Take the locks of a call.  Raises SE004 instead of waiting if the condition fails already.
 * Assumes that event_log is locked, and no stream yet.
 */
void
es_condition_lock(const EsAppend *call, const EsCatalog *cat, Relation log)
{
	TagLock    *locks = NULL;
	int			n = 0;
	bool		all = has_item_without_tags(call->condition);
	LOCKMODE	mode;

	if (!all && (call->condition != NULL || es_append_bears_tags(call)) && !holds_all(cat))
	{
		locks = wanted_locks(call, &n);
		all = n > 0 && !has_room_for(n);
	}
	mode = all ? ExclusiveLock : RowExclusiveLock;
	if (all)
		n = 0;
	if (call->condition == NULL || !take_locks(cat, mode, locks, n, false))
	{
		if (call->condition != NULL)
			fail_at_once(call, cat, log);
		(void) take_locks(cat, mode, locks, n, true);
	}
	if (locks != NULL)
		pfree(locks);
}

/* Take the locks of the tags that a trigger has given to an event. */
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
			(void) lock_tags(locks, n, true);
		else
			LockRelationOid(cat->append_lock, ExclusiveLock);
	}
	pfree(locks);
}
