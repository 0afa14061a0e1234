/*
 * registry.c
 *		The registry of databases (log/database.c) in a server without the extension.
 *
 * For tests/tap/366_registry.pl, which preloads this library alone.  The OIDs are invented;
 * so nobody is connected to their databases, and what the rest of the extension does
 * with an entry is done here.
 *
 * Each entry has a mark: a number that is raised before the entry is listed as due.  Whoever
 * takes the list copies it to "seen", where the launcher would look what there is to do.  When
 * all have stopped and the list was taken once more, the two are equal, or something was
 * lost.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_type.h"
#include "common/pg_prng.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "core/settings.h"
#include "core/shmem.h"
#include "log/database.h"

PG_MODULE_MAGIC;

/* The invented OIDs are these. */
#define FIRST_OID	100000
#define MAX_MARKS	20000
/* Time after which whoever takes the list looks, though nobody has woken it. */
#define LOOK_MS		1000
/* Time after which a mark is lost that nobody has seen. */
#define LOST_MS		5000
/* Greatest number of turns for which a process keeps itself busy between two steps. */
#define MOST_TURNS	200

typedef struct Mark
{
	pg_atomic_uint64 raised;
	pg_atomic_uint64 seen;
	uint64		taken;			/* number of the last take in which the entry was */
} Mark;

typedef struct Marks
{
	pg_atomic_uint32 stopped;	/* whoever takes the list is to stop */
	Mark		marks[MAX_MARKS];
} Marks;

static Marks *shared = NULL;

static Size
marks_size(void)
{
	return sizeof(Marks);
}

static void
attach_marks(void *memory, LWLockPadded *locks, bool fresh)
{
	shared = memory;
	if (!fresh)
		return;
	pg_atomic_init_u32(&shared->stopped, 0);
	for (int i = 0; i < MAX_MARKS; i++)
	{
		pg_atomic_init_u64(&shared->marks[i].raised, 0);
		pg_atomic_init_u64(&shared->marks[i].seen, 0);
	}
}

void		_PG_init(void);

void
_PG_init(void)
{
	static const EsShmemPart part = {.name = "registry marks", .size = marks_size, .attach = attach_marks};

	if (!process_shared_preload_libraries_in_progress)
		return;
	es_settings_init(true);
	es_databases_init();
	es_shmem_add(&part);
}

static Mark *
mark_of(Oid dboid)
{
	if (dboid < FIRST_OID || dboid >= FIRST_OID + MAX_MARKS)
		elog(ERROR, "%u is no invented OID", dboid);
	return &shared->marks[dboid - FIRST_OID];
}

static Oid
any_of(Oid first, int n)
{
	return first + pg_prng_uint64_range(&pg_global_prng_state, 0, n - 1);
}

/* Stay between two steps for a moment, and sometimes let others have the processor. */
static void
dawdle(void)
{
	uint64		turns = pg_prng_uint64_range(&pg_global_prng_state, 0, MOST_TURNS);

	if (turns == 0)
		pg_usleep(1);
	for (volatile uint64 i = 0; i < turns; i++)
		;
}

/* ---- entries ---- */

PG_FUNCTION_INFO_V1(registry_entry);

/* registry_entry(oid, make boolean) RETURNS bigint: the entry's address. */
Datum
registry_entry(PG_FUNCTION_ARGS)
{
	EsDatabase *db = es_database_of(PG_GETARG_OID(0), PG_GETARG_BOOL(1));

	if (db == NULL)
		PG_RETURN_NULL();
	if (db->dboid != PG_GETARG_OID(0))
		elog(ERROR, "the entry of %u is that of %u", PG_GETARG_OID(0), db->dboid);
	PG_RETURN_INT64((int64) (uintptr_t) db);
}

PG_FUNCTION_INFO_V1(registry_list);

/* registry_list() RETURNS oid[] */
Datum
registry_list(PG_FUNCTION_ARGS)
{
	int			n;
	EsDatabase **list = es_databases_list(&n);
	Datum	   *oids = palloc(sizeof(Datum) * Max(n, 1));

	for (int i = 0; i < n; i++)
		oids[i] = ObjectIdGetDatum(list[i]->dboid);
	PG_RETURN_ARRAYTYPE_P(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

PG_FUNCTION_INFO_V1(registry_drop);

/* registry_drop(oid): the database has been dropped. */
Datum
registry_drop(PG_FUNCTION_ARGS)
{
	es_database_drop(PG_GETARG_OID(0));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(registry_note_scheduler);

/* registry_note_scheduler(oid, pid): who that is.  Returns who it was. */
Datum
registry_note_scheduler(PG_FUNCTION_ARGS)
{
	EsDatabase *db = es_database_of(PG_GETARG_OID(0), false);
	int			before = db->scheduler_pid;

	db->scheduler_pid = PG_GETARG_INT32(1);
	PG_RETURN_INT32(before);
}

/* ---- those that are due ---- */

PG_FUNCTION_INFO_V1(registry_list_due);

/* registry_list_due(oid) */
Datum
registry_list_due(PG_FUNCTION_ARGS)
{
	es_database_list_due(es_database_of(PG_GETARG_OID(0), false));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(registry_call_scheduler);

/* registry_call_scheduler(oid) */
Datum
registry_call_scheduler(PG_FUNCTION_ARGS)
{
	es_database_call_scheduler(es_database_of(PG_GETARG_OID(0), false));
	PG_RETURN_VOID();
}

/* What the launcher, and a scheduler that it starts, do with a database that was in the list. */
static void
look_at(EsDatabase *db)
{
	Mark	   *mark = mark_of(db->dboid);

	if (db->dropped)
		(void) es_database_free_dropped(db->dboid);
	else
		(void) pg_atomic_exchange_u64(&db->wanted_since, 0);
	pg_atomic_write_u64(&mark->seen, pg_atomic_read_u64(&mark->raised));
}

PG_FUNCTION_INFO_V1(registry_take);

/* registry_take() RETURNS oid[]: takes the list once. */
Datum
registry_take(PG_FUNCTION_ARGS)
{
	EsDatabase *chain = es_due_take();
	EsDatabase *db;
	Datum	   *oids = palloc(sizeof(Datum) * MAX_MARKS);
	int			n = 0;

	while ((db = es_due_next(&chain)) != NULL)
	{
		if (n == MAX_MARKS)
			elog(ERROR, "the list has no end");
		oids[n++] = ObjectIdGetDatum(db->dboid);
		look_at(db);
	}
	PG_RETURN_ARRAYTYPE_P(construct_array(oids, n, OIDOID, sizeof(Oid), true, TYPALIGN_INT));
}

/* ---- a crowd ---- */

PG_FUNCTION_INFO_V1(registry_take_all);

/*
 * registry_take_all(OUT takes bigint, OUT taken bigint, OUT twice bigint, OUT late bigint): as
 * the launcher does, until told to stop.  How often the list was taken, how many entries
 * were in, how often one twice at once, and how often nobody woke us though something had
 * entered.
 */
Datum
registry_take_all(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	int64		takes = 0;
	int64		taken = 0;
	int64		twice = 0;
	int64		late = 0;
	bool		stopped;
	bool		timed_out = false;
	Datum		values[4];
	bool		nulls[4] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "not a row");
	es_launcher_set(true);
	do
	{
		EsDatabase *chain;
		EsDatabase *db;
		int			length = 0;

		CHECK_FOR_INTERRUPTS();
		stopped = pg_atomic_read_u32(&shared->stopped) != 0;
		pg_memory_barrier();
		chain = es_due_take();
		takes++;
		while ((db = es_due_next(&chain)) != NULL)
		{
			Mark	   *mark = mark_of(db->dboid);

			if (++length > MAX_MARKS)
				elog(ERROR, "the list has no end");
			twice += mark->taken == takes;
			mark->taken = takes;
			look_at(db);
			dawdle();
		}
		taken += length;
		late += timed_out && length > 0;
		timed_out = false;
		if (length == 0 && !stopped)
		{
			timed_out = (WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
								   LOOK_MS, PG_WAIT_EXTENSION) & WL_TIMEOUT) != 0;
			ResetLatch(MyLatch);
		}
	} while (!stopped);
	es_launcher_set(false);
	values[0] = Int64GetDatum(takes);
	values[1] = Int64GetDatum(taken);
	values[2] = Int64GetDatum(twice);
	values[3] = Int64GetDatum(late);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

PG_FUNCTION_INFO_V1(registry_stop);

/* registry_stop(): whoever takes the list takes it once more, and stops. */
Datum
registry_stop(PG_FUNCTION_ARGS)
{
	pg_atomic_write_u32(&shared->stopped, 1);
	es_launcher_wake();
	PG_RETURN_VOID();
}

static bool
is_over(TimestampTz begun, int ms)
{
	CHECK_FOR_INTERRUPTS();
	return TimestampDifferenceExceeds(begun, GetCurrentTimestamp(), ms);
}

PG_FUNCTION_INFO_V1(registry_mark_some);

/*
 * registry_mark_some(first oid, n integer, ms integer) RETURNS bigint: raise the marks of n
 * entries, and list them, one after the other, any of them, for a time.  How many.
 */
Datum
registry_mark_some(PG_FUNCTION_ARGS)
{
	Oid			first = PG_GETARG_OID(0);
	TimestampTz begun = GetCurrentTimestamp();
	int64		raised = 0;

	while (!is_over(begun, PG_GETARG_INT32(2)))
	{
		Oid			dboid = any_of(first, PG_GETARG_INT32(1));
		EsDatabase *db = es_database_of(dboid, false);

		pg_atomic_fetch_add_u64(&mark_of(dboid)->raised, 1);	/* a full barrier */
		if (raised++ % 2)
			es_database_call_scheduler(db);
		else
			es_database_list_due(db);
	}
	PG_RETURN_INT64(raised);
}

PG_FUNCTION_INFO_V1(registry_mark_own);

/*
 * registry_mark_own(first oid, n integer, ms integer, OUT rounds bigint, OUT lost bigint): raise the
 * mark of one of n entries that nobody else deals with, and list it, a few times; wait until
 * it has been seen; and so on, for a time.  How often it had not been seen after LOST_MS.
 */
Datum
registry_mark_own(PG_FUNCTION_ARGS)
{
	TupleDesc	desc;
	TimestampTz begun = GetCurrentTimestamp();
	int64		rounds = 0;
	int64		lost = 0;
	Datum		values[2];
	bool		nulls[2] = {false};

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "not a row");
	while (lost == 0 && !is_over(begun, PG_GETARG_INT32(2)))
	{
		Oid			dboid = any_of(PG_GETARG_OID(0), PG_GETARG_INT32(1));
		EsDatabase *db = es_database_of(dboid, false);
		Mark	   *mark = mark_of(dboid);
		TimestampTz listed;

		for (int i = rounds % 4; i >= 0; i--)
		{
			pg_atomic_fetch_add_u64(&mark->raised, 1);
			if (i % 2)
				es_database_call_scheduler(db);
			else
				es_database_list_due(db);
			dawdle();
		}
		listed = GetCurrentTimestamp();
		while (pg_atomic_read_u64(&mark->seen) != pg_atomic_read_u64(&mark->raised))
		{
			if (is_over(listed, LOST_MS))
			{
				lost++;
				break;
			}
			dawdle();
		}
		rounds++;
	}
	values[0] = Int64GetDatum(rounds);
	values[1] = Int64GetDatum(lost);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

PG_FUNCTION_INFO_V1(registry_replace_some);

/*
 * registry_replace_some(first oid, n integer, ms integer) RETURNS bigint: drop one of n databases,
 * that nobody else deals with, and use its OID again, for a time.  How many were still there.
 */
Datum
registry_replace_some(PG_FUNCTION_ARGS)
{
	Oid			first = PG_GETARG_OID(0);
	TimestampTz begun = GetCurrentTimestamp();
	int64		revived = 0;

	while (!is_over(begun, PG_GETARG_INT32(2)))
	{
		Oid			dboid = any_of(first, PG_GETARG_INT32(1));
		EsDatabase *before = es_database_of(dboid, true);
		EsDatabase *db;

		es_database_drop(dboid);
		dawdle();
		db = es_database_of(dboid, true);
		revived += db == before;
		pg_atomic_fetch_add_u64(&mark_of(dboid)->raised, 1);
		es_database_list_due(db);
	}
	PG_RETURN_INT64(revived);
}

PG_FUNCTION_INFO_V1(registry_unseen);

/* registry_unseen(first oid, n integer) RETURNS integer: marks that nobody has seen. */
Datum
registry_unseen(PG_FUNCTION_ARGS)
{
	int			unseen = 0;

	for (int i = 0; i < PG_GETARG_INT32(1); i++)
	{
		Mark	   *mark = mark_of(PG_GETARG_OID(0) + i);

		unseen += pg_atomic_read_u64(&mark->raised) != pg_atomic_read_u64(&mark->seen);
	}
	PG_RETURN_INT32(unseen);
}
