/*
 * reset.c
 *		es_reset: empties a store for the next test.
 *
 * The tables of what was stored are truncated: events, tags, streams, types, what was taken
 * away from streams, snapshots, states of reducers, dead letters, held and parked events.
 * What was declared stays: projections, subscriptions, upcasters, rules of retention, the
 * boundary.
 * Positions go on, and all checkpoints are set to the last position handed out, so no
 * projection or consumer has anything to do.  Leases end.  The history is another one:
 * es_epoch() changes.  What projections have written to tables of users stays.
 *
 * Invariants
 * 1. Nobody else is in the store meanwhile: event_log is locked AccessExclusive, and whoever
 *    calls a function of the store locks it first, to the end of his transaction.  So the rows
 *    that are changed here are nobody's, and no position is in flight but this transaction's.
 * 2. What backends keep of streams and types goes when the storage of event_type is a new one
 *    (core/catalog.c), and again if this is rolled back.
 * 3. Stream keys and positions are never used twice, here neither: their registers stay.
 *
 * Lock order: event_log, projection_progress, projection, subscription_partition.  Before the
 * rows, AccessExclusive on those of "tables" that hold anything, in their order.  A query of
 * users' that has locked another table before event_log can be in a deadlock with it (40P01),
 * as with any TRUNCATE of several tables.
 * Crash: everything belongs to the caller's transaction.
 */
#include "postgres.h"

#include "access/table.h"
#include "catalog/pg_type.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "core/settings.h"
#include "core/spi.h"
#include "log/change.h"
#include "log/head.h"
#include "log/seal.h"
#include "projections/figures.h"

PG_FUNCTION_INFO_V1(es_reset);

#define TABLE(name)		{#name, {"TRUNCATE eventstore." #name, {InvalidOid}}}

/* In the order of their locks. */
static struct
{
	const char *name;
	EsStatement empty;
}			tables[] = {
	TABLE(event_log),
	TABLE(event_tag),
	TABLE(stream),
	TABLE(event_type),
	TABLE(hidden),
	TABLE(removed_id),
	TABLE(scavenged),
	TABLE(snapshot),
	TABLE(projection_state),
	TABLE(dead_letter),
	TABLE(subscription_event),
};

static EsStatement set_projections = {
	"UPDATE eventstore.projection_progress SET checkpoint = $1, failures = 0, failed_position = NULL,"
	" error = NULL, sqlstate = NULL, detail = NULL, hint = NULL, context = NULL, failed_at = NULL",
	{INT8OID}
};

/* A projection that an error has stopped runs again: the event that it failed at is gone. */
static EsStatement start_projections = {
	"UPDATE eventstore.projection SET since = clock_timestamp(), rebuild_up_to = NULL,"
	" state = CASE state WHEN 'stopped' THEN 'running' ELSE state END"
	" WHERE state = 'stopped' OR rebuild_up_to IS NOT NULL",
	{InvalidOid}
};

static EsStatement set_subscriptions = {
	"UPDATE eventstore.subscription_partition SET checkpoint = $1, delivered = $1, pending = '{}',"
	" held = 0, batch_limit = NULL, consumer = NULL, leased_until = NULL",
	{INT8OID}
};

static EsStatement begin_history = {
	"UPDATE eventstore.mark SET identity = gen_random_uuid()", {InvalidOid}
};

/* Has the table any pages?  One without need not be truncated, which takes time for each index. */
static bool
has_pages(const EsCatalog *cat, const char *table)
{
	Relation	rel = table_open(get_relname_relid(table, cat->schema), AccessShareLock);
	bool		has = RelationGetNumberOfBlocks(rel) > 0;

	table_close(rel, AccessShareLock);
	return has;
}

static void
empty_tables(const EsCatalog *cat)
{
	for (int i = 0; i < lengthof(tables); i++)
	{
		if (has_pages(cat, tables[i].name))
			(void) es_spi_run(&tables[i].empty, NULL, NULL);
	}
}

/* Call something for each projection. */
static void
for_each_projection(const EsCatalog *cat, void (*run) (const EsCatalog *cat, int id))
{
	const EsProjections *all = es_definitions(cat);

	for (int i = 0; i < all->n; i++)
		run(cat, all->list[i].id);
}

/*
 * May the caller, and does he mean it?  The log is sealed then, so that what was restored
 * counts for the positions that go on.
 */
static void
check_allowed(void)
{
	const EsCatalog *cat = es_seal_lock_log();

	if (!es_compat_owns_relation(cat->event_log))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of the event store to reset it")));
	if (!es_guc_allow_drop)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_IN_USE),
				 errmsg("cannot reset the event store: its events would be lost"),
				 errhint("If that is what you want, SET eventstore.allow_drop = on first.")));
	/* a batch that is running holds its lock for long, and is in vain */
	for_each_projection(cat, es_figures_interrupt);
	UnlockRelationOid(cat->event_log, RowExclusiveLock);
}

/*
 * es_reset() → void
 */
Datum
es_reset(PG_FUNCTION_ARGS)
{
	const EsCatalog *cat;
	Datum		position[1];
	EsSpi		spi;

	es_control_check("es_reset()");
	check_allowed();
	cat = es_catalog_lock(AccessExclusiveLock); /* (1) */
	position[0] = Int64GetDatum(es_head_handed_out(cat));

	es_spi_begin(&spi);
	empty_tables(cat);
	(void) es_spi_run(&set_projections, position, NULL);
	(void) es_spi_run(&start_projections, NULL, NULL);
	(void) es_spi_run(&set_subscriptions, position, NULL);
	(void) es_spi_run(&begin_history, NULL, NULL);
	es_spi_end(&spi);
	CommandCounterIncrement();
	for_each_projection(es_catalog_lock(AccessExclusiveLock), es_figures_hurry);
	PG_RETURN_VOID();
}
