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
 * 4. A transaction that has locked more than MAX_TAGS tags in its calls takes
 *    append_lock Exclusive instead of more: the lock table is not filled by a long
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
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/numeric.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "log/append.h"
#include "log/condition.h"
#include "log/dictionary.h"
#include "log/head.h"
#include "log/tags.h"
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

static int64
parse_after(const JsonbValue *value)
{
	Datum		number;
	int64		after;

	if (value->type != jbvNumeric)
		refuse("\"after\" of a condition must be a position");
	number = NumericGetDatum(value->val.numeric);
	if (!DatumGetBool(DirectFunctionCall2(numeric_eq, number,
										  DirectFunctionCall2(numeric_trunc, number, Int32GetDatum(0)))))
		refuse("\"after\" of a condition must be a position");
	after = DatumGetInt64(DirectFunctionCall1(numeric_int8, number));
	if (after < 0)
		refuse("\"after\" of a condition must not be negative");
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

static void
lock_tag(int64 hash, LOCKMODE mode)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) ((uint64) hash >> 32), (uint32) hash, LOCK_CLASS);
	(void) LockAcquire(&tag, mode, false, false);
}

static bool
holds_all(const EsCatalog *cat)
{
	LOCKTAG		tag;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, cat->append_lock);
	return LockHeldByMe(&tag, ExclusiveLock);
}

/* May so many more tags be locked one by one (4)? */
static bool
has_room_for(int n)
{
	if (counted_in != MyProc->lxid)
	{
		counted_in = MyProc->lxid;
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

static void
lock_in_order(TagLock *locks, int n)
{
	qsort(locks, n, sizeof(TagLock), compare_locks);
	for (int i = 0; i < n; i++)
	{
		if (i == 0 || locks[i].hash != locks[i - 1].hash)
			lock_tag(locks[i].hash, locks[i].mode);
	}
}

/* The tags of the call's events, shared; how many, at most one more than "max". */
static int
event_locks(const EsAppend *call, TagLock *locks, int max)
{
	int			n = 0;

	for (int i = 0; i < call->nevents && n <= max; i++)
	{
		int			ntags;
		int64	   *hashes;

		if (call->events[i].tags == 0)
			continue;
		hashes = es_tag_hashes(call->events[i].tags, &ntags);
		for (int j = 0; j < ntags && n <= max; j++)
			locks[n++] = (TagLock) {hashes[j], ShareLock};
		pfree(hashes);
	}
	return n;
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

/* One tag of each item, exclusively; -1: an item has none, or there are too many. */
static int
item_locks(const EsCondition *condition, TagLock *locks, int max)
{
	int			n = 0;

	for (int i = 0; condition != NULL && i < condition->query->nitems; i++)
	{
		if (condition->query->items[i].ntags == 0 || n == max)
			return -1;
		locks[n++] = (TagLock) {least_hash(&condition->query->items[i]), ExclusiveLock};
	}
	return n;
}

/*
 * Take the locks of a call.  event_log is locked, no stream is yet.
 */
void
es_condition_lock(const EsAppend *call, const EsCatalog *cat)
{
	TagLock		locks[MAX_TAGS + MAX_TAGS + 1];
	int			nitems = item_locks(call->condition, locks, MAX_TAGS);
	int			nevents = nitems < 0 ? 0 : event_locks(call, locks + nitems, MAX_TAGS - nitems);

	if (nitems + nevents > 0 && holds_all(cat))
		return;
	if (nitems < 0 || nitems + nevents > MAX_TAGS || !has_room_for(nitems + nevents))
	{
		LockRelationOid(cat->append_lock, ExclusiveLock);
		return;
	}
	LockRelationOid(cat->append_lock, RowExclusiveLock);
	lock_in_order(locks, nitems + nevents);
}

/* Those that a trigger has given to an event. */
void
es_condition_lock_tags(const EsCatalog *cat, Datum tags)
{
	int			n;
	int64	   *hashes = es_tag_hashes(tags, &n);

	if (!holds_all(cat))
	{
		for (int i = 0; i < n; i++)
			lock_tag(hashes[i], ShareLock);
	}
	pfree(hashes);
}

/* ---- the look ---- */

static void
raise_failed(const EsCatalog *cat, TupleTableSlot *event)
{
	bool		isnull;
	int64		position = DatumGetInt64(slot_getattr(event, ES_LOG_COL_POSITION, &isnull));
	const EsEventType *type = es_dictionary_entry(cat, DatumGetInt64(slot_getattr(event, ES_LOG_COL_TYPE_KEY, &isnull)));

	ereport(ERROR,
			(errcode(ES_CONDITION_FAILED),
			 errmsg("append condition failed"),
			 errdetail("position: %lld, type: " ES_NAME_FORMAT, (long long) position, ES_NAME_ARGS(type->type)),
			 errhint("Query again, decide again, append again.")));
}

/*
 * Raise SE004 if a matching event stands beyond "after" (2).
 */
void
es_condition_check(const EsAppend *call, const EsCatalog *cat)
{
	EsMatches  *matches;
	EsVisible  *visible;
	TupleTableSlot *event;

	if (call->condition == NULL)
		return;
	es_head_refuse_ahead(cat, call->condition->after);
	visible = es_visible_open(cat, SnapshotSelf);
	matches = es_matches_open(cat, call->condition->query, SnapshotSelf, call->condition->after, PG_INT64_MAX);
	while ((event = es_matches_next(matches)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		if (visible == NULL || es_visible_shows(visible, event))
			raise_failed(cat, event);
	}
	es_matches_close(matches);
	es_visible_close(visible);
}
