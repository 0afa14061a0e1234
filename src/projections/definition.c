/*
 * definition.c
 *		The projections of this database, of which each backend keeps a copy.
 *
 * The copy is core/table_cache.c's: each append must know the inline projections, at no
 * cost.  A trigger sends the invalidation when the table changes (changed.c).  The owner is
 * read with the row, by the same snapshot, from the function that carries it; whatever
 * changes the carrier changes the row too (roles.c).
 *
 * A projection without an owner does not run, as if an error had stopped it.
 *
 * Invariant: what a caller got stays allocated until the next look-up.  Whoever runs users'
 * code, which can change projections, looks again afterwards; the definitions that the
 * callers below it on the stack use are pinned.
 *
 * Locks: AccessShare on eventstore.projection, after event_log.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"

#include "core/args.h"
#include "core/errors.h"
#include "core/spi.h"
#include "core/table_cache.h"
#include "projections/definition.h"
#include "read/kept.h"

/* Columns of eventstore.projection */
enum
{
	COL_ID = 1, COL_NAME, COL_OWNER_THEN, COL_SEARCH_PATH, COL_FORM, COL_CODE, COL_MODE,
	COL_TYPES, COL_CATEGORIES, COL_PARTITION_BY, COL_START_AFTER, COL_BATCH_SIZE,
	COL_ON_ERROR, COL_MAX_RETRIES, COL_RESET, COL_NAMED, COL_STATE, COL_LIVE,
	COL_REBUILD_UP_TO, COL_SINCE, COL_FILTER
};

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
read_projection(TableScanDesc scan, TupleTableSlot *slot, EsProjection *projection)
{
	char	   *state = text_of(slot, COL_STATE);
	bool		live;
	bool		isnull;

	memset(projection, 0, sizeof(*projection));
	projection->tid = slot->tts_tid;
	projection->version = DatumGetTransactionId(slot_getsysattr(slot, MinTransactionIdAttributeNumber, &isnull));
	projection->id = (int) number_of(slot, COL_ID, false);
	projection->name = text_of(slot, COL_NAME);
	projection->carrier = es_carrier_find(RelationGetNamespace(scan->rs_rd), ES_CARRIES_PROJECTION,
										  projection->id, scan->rs_snapshot);
	projection->owner_then = text_of(slot, COL_OWNER_THEN);
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
	projection->filter.query = es_kept_query(slot, COL_FILTER);
	projection->partition_by = text_of(slot, COL_PARTITION_BY);
	projection->start_after = number_of(slot, COL_START_AFTER, true);
	projection->batch_size = (int) number_of(slot, COL_BATCH_SIZE, false);
	projection->max_retries = (int) number_of(slot, COL_MAX_RETRIES, false);
	projection->reset = text_of(slot, COL_RESET);
	projection->named = texts_of(slot, COL_NAMED, &projection->nnamed);
	projection->runs = projection->state == ES_STATE_RUNNING && OidIsValid(projection->carrier.owner);
	live = DatumGetBool(slot_getattr(slot, COL_LIVE, &isnull));
	projection->live = live && projection->runs;
	projection->was_live = live && !projection->runs;
	projection->rebuild_up_to = number_of(slot, COL_REBUILD_UP_TO, true);
}

static int
compare_ids(const void *a, const void *b)
{
	return ((const EsProjection *) a)->id - ((const EsProjection *) b)->id;
}

/* All rows, in the order of their ids. */
static void *
read_projections(TableScanDesc scan, TupleTableSlot *slot)
{
	EsProjections *found = palloc0(sizeof(EsProjections));
	int			capacity = 16;

	found->list = palloc(sizeof(EsProjection) * capacity);
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		if (found->n == capacity)
			found->list = repalloc(found->list, sizeof(EsProjection) * (capacity *= 2));
		read_projection(scan, slot, &found->list[found->n++]);
	}
	qsort(found->list, found->n, sizeof(EsProjection), compare_ids);
	found->live = palloc(sizeof(EsProjection *) * Max(found->n, 1));
	for (int i = 0; i < found->n; i++)
	{
		if (found->list[i].live)
			found->live[found->nlive++] = &found->list[i];
		if (found->list[i].was_live)
			found->nwas_live++;
	}
	return found;
}

static EsTableCache cache = {"eventstore projections", read_projections};

void
es_definition_init(void)
{
	es_table_cache_init(&cache);
}

/*
 * All projections, until the next look-up.  Assumes a lock on event_log.
 */
const EsProjections *
es_definitions(const EsCatalog *cat)
{
	return es_table_cache_rows(&cache, cat->projection);
}

/*
 * The same, read anew, for a process that is woken by a change as soon as that is visible.
 */
const EsProjections *
es_definitions_anew(const EsCatalog *cat)
{
	return es_table_cache_rows_anew(&cache, cat->projection);
}

/* What was looked up last stays until the current memory context is reset or deleted. */
void
es_definitions_pin(void)
{
	es_table_cache_pin(&cache);
}

const EsProjection *
es_definition_by_id(const EsCatalog *cat, int id)
{
	const EsProjections *all = es_definitions(cat);
	EsProjection wanted = {.id = id};

	return bsearch(&wanted, all->list, all->n, sizeof(EsProjection), compare_ids);
}

/*
 * The same for a caller that holds the lock of the projection's progress, which each change
 * of a projection takes.  A change may be visible before its invalidation is sent: so the
 * row is compared, and all are read anew if it is another.
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

/* An error if it has no owner, and so cannot run. */
void
es_definition_require_owner(const EsProjection *projection)
{
	if (!OidIsValid(projection->carrier.owner))
		ereport(ERROR,
				(errcode(ES_PROJECTION_STOPPED),
				 errmsg("projection \"%s\" has no owner", projection->name),
				 errhint("A superuser can give it one: es_alter_projection(name, owner => ...).")));
}
