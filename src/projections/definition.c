/*
 * definition.c
 *		The projections of this database, as each backend keeps them.
 *
 * Read from eventstore.projection as a whole, for an append must know the inline
 * ones and may not pay for that.  The copy holds until the table changes: a
 * trigger on it sends an invalidation of the table (changed.c), as
 * DDL does, and a backend takes that in with the lock on event_log.
 *
 * Invariants
 * 1. The table is read with a snapshot of this moment, whatever the isolation
 *    level: an append in an old REPEATABLE READ transaction must apply the inline
 *    projections of today.  Own uncommitted changes are seen, and forgotten if they
 *    are rolled back, for an abort sends invalidations to oneself
 *    (utils/cache/inval.c).
 * 2. An invalidation that comes while the table is read makes us read it again.
 * 3. What a caller got stays allocated until the next look-up: whoever runs users'
 *    code, which can change projections, looks again afterwards.  While code runs,
 *    former copies are kept ("retired") for those on the stack below it.
 *
 * Locks: AccessShare on eventstore.projection, after event_log.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"

#include "core/args.h"
#include "core/spi.h"
#include "log/change.h"
#include "projections/definition.h"

/* Columns of eventstore.projection */
enum
{
	COL_ID = 1, COL_NAME, COL_OWNER, COL_SEARCH_PATH, COL_FORM, COL_CODE, COL_MODE,
	COL_TYPES, COL_CATEGORIES, COL_PARTITION_BY, COL_START_AFTER, COL_BATCH_SIZE,
	COL_ON_ERROR, COL_MAX_RETRIES, COL_RESET, COL_NAMED, COL_STATE, COL_LIVE,
	COL_REBUILD_UP_TO, COL_SINCE
};

static MemoryContext current_context = NULL;
static MemoryContext retired = NULL;	/* parent of former ones (3) */
static EsProjections current;
static bool valid = false;
static Oid	read_from = InvalidOid; /* OID of the table */
static uint64 invalidations = 0;

static const char *const form_names[] = {"handler", "query", "reducer"};
static const char *const on_error_names[] = {"stop", "skip", "park"};
static const char *const state_names[] = {"running", "paused", "stopped"};

const char *
es_form_name(EsForm form)
{
	return form_names[form];
}

const char *
es_state_name(EsState state)
{
	return state_names[state];
}

static int
index_of(const char *name, const char *const *names, int n)
{
	for (int i = 0; i < n; i++)
	{
		if (strcmp(name, names[i]) == 0)
			return i;
	}
	return -1;
}

static bool
parse_form(const char *name, EsForm *form)
{
	int			i = index_of(name, form_names, lengthof(form_names));

	*form = (EsForm) i;
	return i >= 0;
}

bool
es_on_error_parse(const char *name, EsOnError *on_error)
{
	int			i = index_of(name, on_error_names, lengthof(on_error_names));

	*on_error = (EsOnError) i;
	return i >= 0;
}

static void
relation_changed(Datum arg, Oid relid)
{
	if (relid == InvalidOid || relid == read_from)
	{
		invalidations++;
		valid = false;
	}
}

void
es_definition_init(void)
{
	CacheRegisterRelcacheCallback(relation_changed, (Datum) 0);
}

static char *
text_of(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? NULL : TextDatumGetCString(value);
}

static int64
number_of(TupleTableSlot *slot, int column, bool wide)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? 0 : wide ? DatumGetInt64(value) : DatumGetInt32(value);
}

static char **
texts_of(TupleTableSlot *slot, int column, int *n)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);
	Datum	   *values;
	bool	   *nulls;
	char	  **texts;

	*n = 0;
	if (isnull)
		return NULL;
	es_array_read(DatumGetArrayTypeP(value), TEXTOID, "array", &values, &nulls, n);
	texts = palloc(sizeof(char *) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		texts[i] = nulls[i] ? pstrdup("") : TextDatumGetCString(values[i]);
	return texts;
}

static EsName *
names_of(TupleTableSlot *slot, int column, int *n)
{
	char	  **texts = texts_of(slot, column, n);
	EsName	   *names;

	if (texts == NULL)
		return NULL;
	names = palloc(sizeof(EsName) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
	{
		names[i].bytes = texts[i];
		names[i].len = strlen(texts[i]);
	}
	return names;
}

static void
read_row(TupleTableSlot *slot, EsProjection *projection)
{
	char	   *state = text_of(slot, COL_STATE);
	bool		isnull;

	memset(projection, 0, sizeof(*projection));
	projection->tid = slot->tts_tid;
	projection->version = DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull));
	projection->id = (int) number_of(slot, COL_ID, false);
	projection->name = text_of(slot, COL_NAME);
	projection->owner = text_of(slot, COL_OWNER);
	projection->search_path = text_of(slot, COL_SEARCH_PATH);
	if (!parse_form(text_of(slot, COL_FORM), &projection->form) ||
		!es_on_error_parse(text_of(slot, COL_ON_ERROR), &projection->on_error) ||
		index_of(state, state_names, lengthof(state_names)) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("the row of projection \"%s\" in eventstore.projection is not valid",
						projection->name)));
	projection->state = (EsState) index_of(state, state_names, lengthof(state_names));
	projection->code = text_of(slot, COL_CODE);
	projection->is_inline = strcmp(text_of(slot, COL_MODE), "inline") == 0;
	projection->filter.types = names_of(slot, COL_TYPES, &projection->filter.ntypes);
	projection->filter.categories = names_of(slot, COL_CATEGORIES, &projection->filter.ncategories);
	projection->partition_by = text_of(slot, COL_PARTITION_BY);
	projection->start_after = number_of(slot, COL_START_AFTER, true);
	projection->batch_size = (int) number_of(slot, COL_BATCH_SIZE, false);
	projection->max_retries = (int) number_of(slot, COL_MAX_RETRIES, false);
	projection->reset = text_of(slot, COL_RESET);
	projection->named = texts_of(slot, COL_NAMED, &projection->nnamed);
	projection->live = DatumGetBool(slot_getattr(slot, COL_LIVE, &isnull));
	projection->rebuild_up_to = number_of(slot, COL_REBUILD_UP_TO, true);
}

static int
compare_ids(const void *a, const void *b)
{
	return ((const EsProjection *) a)->id - ((const EsProjection *) b)->id;
}

static void
read_table(Oid table, EsProjections *found)
{
	Relation	rel = table_open(table, AccessShareLock);
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = RegisterSnapshot(GetLatestSnapshot());	/* (1) */
	TableScanDesc scan = table_beginscan(rel, snapshot, 0, NULL);
	int			capacity = 16;

	memset(found, 0, sizeof(*found));
	found->list = palloc(sizeof(EsProjection) * capacity);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (found->n == capacity)
			found->list = repalloc(found->list, sizeof(EsProjection) * (capacity *= 2));
		read_row(slot, &found->list[found->n++]);
	}
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	ExecDropSingleTupleTableSlot(slot);
	table_close(rel, AccessShareLock);

	qsort(found->list, found->n, sizeof(EsProjection), compare_ids);
	found->live = palloc(sizeof(EsProjection *) * Max(found->n, 1));
	for (int i = 0; i < found->n; i++)
	{
		if (found->list[i].live)
			found->live[found->nlive++] = &found->list[i];
	}
}

static void
read_anew(const EsCatalog *cat)
{
	MemoryContext context;
	MemoryContext old;
	EsProjections found;
	uint64		before;

	if (retired == NULL)
		retired = AllocSetContextCreate(TopMemoryContext, "eventstore former projections",
										ALLOCSET_SMALL_SIZES);
	/* under "retired" until it is complete: an error leaves nothing behind */
	context = AllocSetContextCreate(retired, "eventstore projections", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(context);
	do
	{
		MemoryContextReset(context);
		read_from = cat->projection;
		before = invalidations;
		read_table(cat->projection, &found);
	} while (before != invalidations);	/* (2) */
	MemoryContextSwitchTo(old);

	if (current_context != NULL)
		MemoryContextSetParent(current_context, retired);
	MemoryContextSetParent(context, TopMemoryContext);
	if (!es_activity_in_progress(ES_PROJECTING))
		MemoryContextDeleteChildren(retired);	/* (3) */
	current_context = context;
	current = found;
	valid = true;
}

/*
 * All projections.  Assumes a lock on event_log.
 */
const EsProjections *
es_definitions(const EsCatalog *cat)
{
	if (!valid || read_from != cat->projection)
		read_anew(cat);
	return &current;
}

/*
 * The same, read anew.  For whoever is told of a change as soon as it is visible:
 * the invalidation comes a moment later (CommitTransaction in access/transam/xact.c:
 * callbacks, then AtEOXact_Inval).
 */
const EsProjections *
es_definitions_anew(const EsCatalog *cat)
{
	read_anew(cat);
	return &current;
}

const EsProjection *
es_definition_by_id(const EsCatalog *cat, int id)
{
	const EsProjections *all = es_definitions(cat);
	EsProjection wanted = {.id = id};

	return bsearch(&wanted, all->list, all->n, sizeof(EsProjection), compare_ids);
}

/*
 * The same for whoever holds the lock of its progress, which each change of a
 * projection takes: what the last one has committed may be visible before its
 * invalidation is sent.  So the row is compared, and all are read anew if it is
 * another.
 */
const EsProjection *
es_definition_under_lock(const EsCatalog *cat, int id)
{
	static EsStatement find = {
		"SELECT ctid FROM eventstore.projection WHERE projection_id = $1", {INT4OID}
	};
	const EsProjection *known;
	Datum		values[1] = {Int32GetDatum(id)};
	ItemPointerData tid;
	bool		there;
	bool		isnull;
	EsSpi		spi;

	es_spi_begin(&spi);
	there = es_spi_look(&find, values) > 0;
	if (there)
		tid = *(ItemPointer) DatumGetPointer(es_spi_value(1, 1, &isnull));
	es_spi_end(&spi);
	if (!there)
		return NULL;
	known = es_definition_by_id(cat, id);
	if (known == NULL || !ItemPointerEquals(&tid, (ItemPointer) &known->tid))
	{
		(void) es_definitions_anew(cat);
		known = es_definition_by_id(cat, id);
	}
	return known;
}

/* The projection of that name, or NULL. */
const EsProjection *
es_definition_by_name(const EsCatalog *cat, EsName name)
{
	const EsProjections *all = es_definitions(cat);

	for (int i = 0; i < all->n; i++)
	{
		if (strlen(all->list[i].name) == name.len &&
			memcmp(all->list[i].name, name.bytes, name.len) == 0)
			return &all->list[i];
	}
	return NULL;
}

/* The same; an error if there is none. */
const EsProjection *
es_definition_require(const EsCatalog *cat, EsName name)
{
	const EsProjection *found = es_definition_by_name(cat, name);

	if (found == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("projection \"" ES_NAME_FORMAT "\" does not exist", ES_NAME_ARGS(name))));
	return found;
}
