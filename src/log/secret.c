/*
 * secret.c
 *		The secret that the ids of events are derived with.
 *
 * 126 random bits in two registers (core/durable.c), drawn when the log is sealed for the
 * first time, and a third register with a number that is computed from them, by which a
 * secret that was not restored whole is known.  A dump carries all three: the same ids for
 * ever, in a restored database, on a standby and in a copy.  Nobody but the owner and those
 * who may read all tables can read the registers.
 *
 * Each backend keeps a copy.  It holds as long as the log stays sealed: only then nobody
 * restores registers.  Where there is no shared memory to ask, on a standby or without
 * shared_preload_libraries, the registers are read each time.
 *
 * Invariants
 * 1. The secret is on disk before the first event whose id is derived with it: it is written
 *    before the seal, and the seal before the first append.
 * 2. A secret that is there is never replaced while an event needs it.
 * 3. The seal is looked at before its number: sealing counts first and then says so.  So a
 *    number that was seen belongs to a seal no older than the one that was seen, and a copy
 *    that is kept under it is of that seal.
 *
 * Locks: AccessShare or RowExclusive on the registers, after event_log.
 * Crash: the number that is computed from the secret is written last.  Without it, and no
 * event needs the secret then, another one is drawn.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/xlog.h"

#include "core/durable.h"
#include "log/positions.h"
#include "log/registry.h"
#include "log/secret.h"

/* What the check is the hash of: no message of a permutation. */
#define CHECK_MESSAGE	UINT64CONST(0xffffffffffffff)

/* What the three registers say. */
typedef struct StoredSecret
{
	EsSecret	secret;
	int64		check;
	bool		all;
} StoredSecret;

static bool
read_register(Oid relid, int64 *value)
{
	Relation	rel = es_durable_open(relid, false);
	bool		written = es_durable_read(rel, value);

	relation_close(rel, NoLock);
	return written;
}

static void
write_register(Oid relid, int64 value)
{
	Relation	rel = es_durable_open(relid, true);

	es_durable_write(rel, value);
	relation_close(rel, NoLock);
}

static StoredSecret
read_registers(const EsCatalog *cat)
{
	StoredSecret stored;
	int64		first;
	int64		second;
	int			written = 0;

	written += read_register(cat->id_secret_1, &first);
	written += read_register(cat->id_secret_2, &second);
	written += read_register(cat->id_check, &stored.check);
	stored.secret.k0 = (uint64) first;
	stored.secret.k1 = (uint64) second;
	stored.all = written == 3;
	return stored;
}

/* Registers hold positive numbers. */
static int64
check_of_secret(const EsSecret *secret)
{
	return (int64) Max(es_siphash(secret, CHECK_MESSAGE, 7) >> 1, 1);
}

static const char *
find_problem(const StoredSecret *stored)
{
	if (!stored->all)
		return "The secret that ids of events are derived with is missing in eventstore.id_secret_1, id_secret_2 or id_check.";
	if (stored->check != check_of_secret(&stored->secret))
		return "The secret in eventstore.id_secret_1 and id_secret_2 is not the one that eventstore.id_check was made with.";
	return NULL;
}

static void
raise_problem(const char *problem)
{
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("the ids of events cannot be derived"),
			 errdetail_internal("%s", problem),
			 errhint("Restore the sequences of the schema eventstore together with its tables.")));
}

/* The secret of the registers; what is wrong with it, or NULL. */
static const char *
read_secret(const EsCatalog *cat, EsSecret *secret)
{
	StoredSecret stored = read_registers(cat);

	*secret = stored.secret;
	return find_problem(&stored);
}

/* What is wrong with the secret, as a sentence; NULL: nothing. */
const char *
es_secret_problem(const EsCatalog *cat)
{
	EsSecret	secret;

	return read_secret(cat, &secret);
}

static EsSecret
read_or_raise(const EsCatalog *cat)
{
	EsSecret	secret;
	const char *problem = read_secret(cat, &secret);

	if (problem != NULL)
		raise_problem(problem);
	return secret;
}

/* The secret of the store.  An error if it is not there, or damaged: no id can be told. */
EsSecret
es_secret_read(const EsCatalog *cat)
{
	static EsSecret kept;
	static Oid	kept_store = InvalidOid;	/* that it is of */
	static uint32 kept_seal;	/* number of the seal that it is kept under */
	EsDatabase *db;
	uint32		seal;

	if (RecoveryInProgress() || !es_registry_loaded())
		return read_or_raise(cat);
	db = es_positions_attach(cat);
	if (!pg_atomic_read_u32(&db->sealed))
		return read_or_raise(cat);
	pg_read_barrier();			/* (3) */
	seal = pg_atomic_read_u32(&db->seals);
	if (kept_store != cat->position_register || kept_seal != seal)
	{
		kept_store = InvalidOid;	/* until it has been read */
		kept = read_or_raise(cat);
		kept_store = cat->position_register;
		kept_seal = seal;
	}
	return kept;
}

static int64
draw_number(void)
{
	uint64		number;

	if (!pg_strong_random(&number, sizeof(number)))
		ereport(ERROR,
				(errcode(ERRCODE_INTERNAL_ERROR),
				 errmsg("could not generate random values")));
	return (int64) Max(number >> 1, 1);
}

/*
 * The log is about to be sealed: draw a secret if there is none yet.  "needed": there are
 * events whose ids are derived, so it must be there.
 */
void
es_secret_settle(const EsCatalog *cat, bool needed)
{
	StoredSecret stored = read_registers(cat);
	const char *problem = find_problem(&stored);

	if (problem == NULL)
		return;
	if (needed)
		raise_problem(problem);
	stored.secret.k0 = (uint64) draw_number();
	stored.secret.k1 = (uint64) draw_number();
	write_register(cat->id_secret_1, (int64) stored.secret.k0);
	write_register(cat->id_secret_2, (int64) stored.secret.k1);
	write_register(cat->id_check, check_of_secret(&stored.secret));
}
