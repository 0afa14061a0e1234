/*
 * event_id.c
 *		The id of an event: stored with it, or derived from its position.
 *
 * An id that the server makes takes neither a column nor an entry in an index: it is
 * computed from position, created_at and the secret of the store whenever somebody reads it
 * (event_id.h).  From such an id comes the position, which the index on positions finds.  Only
 * ids that clients give stand in the log, and in the index on them.
 *
 * A client's id may be one that was derived: whoever has read an event can send its id back.
 * So a look-up by id asks both.  That an event in progress has the id is known before it is
 * committed only to who has read it uncommitted; es_id_lookup_await waits for that event as
 * the unique index waits for a stored id.
 *
 * Invariants
 * 1. No two events have one id.  Derived ids differ, for the permutation makes different
 *    bits of different positions.  Stored ids are unique by their index.  A client's id is
 *    looked up among the derived ones before it is stored; and an id that will be derived
 *    later nobody can guess who does not know the secret.
 * 2. A client's id costs a look at the log only if it is of version 7 and its bits are
 *    those of a position that has been handed out: one in 2^62 divided by the log's length.
 *
 * Locks: AccessShare on the indexes of event_log.  es_id_lookup_await waits for a transaction.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "compat/compat.h"
#include "core/args.h"
#include "core/uuid7.h"
#include "log/event.h"
#include "log/event_id.h"
#include "log/positions.h"
#include "log/registry.h"
#include "log/secret.h"

PG_FUNCTION_INFO_V1(event_id);
PG_FUNCTION_INFO_V1(event_id_under);
PG_FUNCTION_INFO_V1(event_id_position);

struct EsIdLookup
{
	const EsCatalog *cat;
	Relation	log;
	Relation	id_index;
	IndexScanDesc ids;
	Relation	position_index;
	IndexScanDesc positions;	/* NULL: not asked yet */
	Snapshot	snapshot;
	TupleTableSlot *found;
	EsSecret	secret;			/* that the last id was deciphered with */
};

/* ---- from an event to its id ---- */

/* The derived id of an event; its time must fit (es_uuid7_has_time). */
void
es_event_id_derive(const EsSecret *secret, int64 position, TimestampTz created_at, pg_uuid_t *id)
{
	es_uuid7_make(id, created_at, es_permute(secret, (uint64) position));
}

/*
 * The same for one event of many.  Where positions follow one another, several are permuted at
 * once, which costs half as much.
 */
void
es_event_id_next(EsIdSeries *series, int64 position, TimestampTz created_at, pg_uuid_t *id)
{
	bool		known = series->first != 0 && position >= series->first &&
		position < series->first + ES_PERMUTE_RUN;

	if (!known && (position == series->last + 1 || position == series->last - 1))
	{
		series->first = position > series->last ? position : Max(position - ES_PERMUTE_RUN + 1, 1);
		es_permute_run(&series->secret, series->first, series->ahead);
		known = true;
	}
	series->last = position;
	es_uuid7_make(id, created_at, known ? series->ahead[position - series->first] :
				  es_permute(&series->secret, position));
}

static bool
has_derived_id(TupleTableSlot *event)
{
	return slot_attisnull(event, ES_LOG_COL_EVENT_ID);
}

/* The id of an event of the log. */
void
es_event_id_of(const EsCatalog *cat, TupleTableSlot *event, pg_uuid_t *id)
{
	bool		isnull;
	Datum		stored = slot_getattr(event, ES_LOG_COL_EVENT_ID, &isnull);
	EsSecret	secret;

	if (!isnull)
	{
		*id = *DatumGetUUIDP(stored);
		return;
	}
	secret = es_secret_read(cat);
	es_event_id_derive(&secret, es_log_number(event, ES_LOG_COL_POSITION),
					   es_log_number(event, ES_LOG_COL_CREATED_AT), id);
}

/* ---- from an id to its event ---- */

EsIdLookup *
es_id_lookup_open(const EsCatalog *cat, Relation log, Snapshot snapshot)
{
	EsIdLookup *lookup = palloc0(sizeof(EsIdLookup));

	lookup->cat = cat;
	lookup->log = log;
	lookup->snapshot = snapshot;
	lookup->id_index = index_open(cat->event_log_id, AccessShareLock);
	lookup->ids = es_compat_index_beginscan(log, lookup->id_index, snapshot, 1);
	lookup->found = table_slot_create(log, NULL);
	return lookup;
}

void
es_id_lookup_close(EsIdLookup *lookup)
{
	if (lookup->positions != NULL)
	{
		index_endscan(lookup->positions);
		index_close(lookup->position_index, NoLock);
	}
	index_endscan(lookup->ids);
	index_close(lookup->id_index, NoLock);
	ExecDropSingleTupleTableSlot(lookup->found);
	pfree(lookup);
}

/* The database, if its log is sealed for certain; NULL: it may be open for a restore. */
static EsDatabase *
sealed_database(const EsCatalog *cat)
{
	EsDatabase *db;

	if (RecoveryInProgress() || !es_registry_loaded())
		return NULL;
	db = es_positions_attach(cat);
	return pg_atomic_read_u32(&db->sealed) ? db : NULL;
}

/* Begin to ask the index on positions. */
static void
open_positions(EsIdLookup *lookup)
{
	if (lookup->positions != NULL)
		return;
	lookup->position_index = index_open(lookup->cat->event_log_position, AccessShareLock);
	lookup->positions = es_compat_index_beginscan(lookup->log, lookup->position_index, lookup->snapshot, 1);
}

/* The position of the event whose id was derived so, if there is such an event; else 0. */
static int64
position_of_id(EsIdLookup *lookup, const pg_uuid_t *id)
{
	EsDatabase *db;
	uint64		bits;
	uint64		position;

	if (!es_uuid7_read(id, &bits))
		return 0;
	db = sealed_database(lookup->cat);
	if (db == NULL && RelationGetNumberOfBlocks(lookup->log) == 0)
		return 0;				/* perhaps there is no secret yet */
	lookup->secret = es_secret_read(lookup->cat);
	position = es_permute_back(&lookup->secret, bits);
	if (db != NULL && position >= pg_atomic_read_u64(&db->positions.next))
		return 0;				/* (2) */
	open_positions(lookup);
	return (int64) position;
}

static void
find_position(IndexScanDesc scan, int64 position)
{
	ScanKeyData key;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_INT8EQ, Int64GetDatum(position));
	index_rescan(scan, &key, 1, NULL, 0);
}

/* Is this the id that is derived for the event? */
static bool
derives_id(const EsIdLookup *lookup, TupleTableSlot *event, const pg_uuid_t *id)
{
	pg_uuid_t	derived;

	if (!has_derived_id(event))
		return false;
	es_event_id_derive(&lookup->secret, es_log_number(event, ES_LOG_COL_POSITION),
					   es_log_number(event, ES_LOG_COL_CREATED_AT), &derived);
	return memcmp(&derived, id, sizeof(pg_uuid_t)) == 0;
}

/* The event of an id as the snapshot sees it, or NULL.  Valid until the next call. */
TupleTableSlot *
es_id_lookup(EsIdLookup *lookup, const pg_uuid_t *id)
{
	ScanKeyData key;
	int64		position;

	ScanKeyInit(&key, 1, BTEqualStrategyNumber, F_UUID_EQ, UUIDPGetDatum(id));
	index_rescan(lookup->ids, &key, 1, NULL, 0);
	if (index_getnext_slot(lookup->ids, ForwardScanDirection, lookup->found))
		return lookup->found;

	position = position_of_id(lookup, id);
	if (position == 0)
		return NULL;
	find_position(lookup->positions, position);
	return index_getnext_slot(lookup->positions, ForwardScanDirection, lookup->found) &&
		derives_id(lookup, lookup->found, id) ? lookup->found : NULL;
}

/* Wait until no other transaction is in progress with an event whose derived id this is. */
void
es_id_lookup_await(EsIdLookup *lookup, const pg_uuid_t *id)
{
	int64		position = position_of_id(lookup, id);
	TransactionId wait_for;

	if (position == 0)
		return;
	do
	{
		SnapshotData dirty;
		IndexScanDesc scan;
		ItemPointerData tid;

		CHECK_FOR_INTERRUPTS();
		wait_for = InvalidTransactionId;
		InitDirtySnapshot(dirty);
		scan = es_compat_index_beginscan(lookup->log, lookup->position_index, &dirty, 1);
		find_position(scan, position);
		if (index_getnext_slot(scan, ForwardScanDirection, lookup->found) &&
			TransactionIdIsValid(dirty.xmin) && derives_id(lookup, lookup->found, id))
		{
			wait_for = dirty.xmin;
			tid = lookup->found->tts_tid;
		}
		index_endscan(scan);
		ExecClearTuple(lookup->found);
		if (TransactionIdIsValid(wait_for))
			XactLockTableWait(wait_for, lookup->log, &tid, XLTW_InsertIndex);
	} while (TransactionIdIsValid(wait_for));
}

/* ---- in SQL ---- */

static int64
position_argument(FunctionCallInfo fcinfo, int argno)
{
	int64		position;

	es_arg_require(fcinfo, argno, "position");
	position = PG_GETARG_INT64(argno);
	if (position < 1 || position >> ES_UUID7_BITS != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("position %lld is out of range", (long long) position)));
	return position;
}

static Datum
return_id(FunctionCallInfo fcinfo, const EsSecret *secret, int position_argno)
{
	int64		position = position_argument(fcinfo, position_argno);
	TimestampTz created_at;
	pg_uuid_t  *id;

	es_arg_require(fcinfo, position_argno + 1, "created_at");
	created_at = PG_GETARG_TIMESTAMPTZ(position_argno + 1);
	if (!es_uuid7_has_time(created_at))
		PG_RETURN_NULL();
	id = palloc(sizeof(pg_uuid_t));
	es_event_id_derive(secret, position, created_at, id);
	PG_RETURN_UUID_P(id);
}

/*
 * eventstore.event_id(position, created_at) → uuid
 */
Datum
event_id(PG_FUNCTION_ARGS)
{
	EsSecret	secret = es_secret_read(es_catalog_lock(AccessShareLock));

	return return_id(fcinfo, &secret, 0);
}

static EsSecret
secret_arguments(FunctionCallInfo fcinfo)
{
	EsSecret	secret;

	es_arg_require(fcinfo, 0, "secret_1");
	es_arg_require(fcinfo, 1, "secret_2");
	secret.k0 = (uint64) PG_GETARG_INT64(0);
	secret.k1 = (uint64) PG_GETARG_INT64(1);
	return secret;
}

/*
 * eventstore.event_id_under(secret_1, secret_2, position, created_at) → uuid
 */
Datum
event_id_under(PG_FUNCTION_ARGS)
{
	EsSecret	secret = secret_arguments(fcinfo);

	return return_id(fcinfo, &secret, 2);
}

/*
 * eventstore.event_id_position(secret_1, secret_2, event_id) → bigint
 */
Datum
event_id_position(PG_FUNCTION_ARGS)
{
	EsSecret	secret = secret_arguments(fcinfo);
	uint64		bits;

	es_arg_require(fcinfo, 2, "event_id");
	if (!es_uuid7_read(PG_GETARG_UUID_P(2), &bits))
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) es_permute_back(&secret, bits));
}
