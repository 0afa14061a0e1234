/*
 * kept.c
 *		The filters that projections and subscriptions keep: types and categories, or a
 *		query.
 *
 * They are taken from arguments, read from a row, and compared with one another.  What no
 * event can have is an error.  A type that no event has yet may be a type of tomorrow's, or
 * a misspelt one that nothing will ever come of: that is a NOTICE.
 *
 * Locks: AccessShare on event_type and upcaster.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/rls.h"

#include "core/args.h"
#include "core/existing.h"
#include "log/dictionary.h"
#include "read/kept.h"

/* Types named in one message, at most. */
#define MAX_NAMED		20

/* ---- arguments and rows ---- */

static void
check_names(const EsName *names, int n, const char *what)
{
	for (int i = 0; i < n; i++)
		es_name_check(names[i], what);
}

/*
 * The filter that arguments of these numbers make, checked: types and categories, or a
 * query.  It refers to the arguments.
 */
EsFilter
es_kept_arguments(FunctionCallInfo fcinfo, int types, int categories, int filter)
{
	EsFilter	kept = {0};
	EsQuery    *query;

	es_filter_check_names(fcinfo, types, "types", "type");
	es_filter_check_names(fcinfo, categories, "categories", "category");
	kept.types = es_arg_name_array(fcinfo, types, "types", &kept.ntypes);
	kept.categories = es_arg_name_array(fcinfo, categories, "categories", &kept.ncategories);
	if (PG_ARGISNULL(filter))
		return kept;
	if (!PG_ARGISNULL(types) || !PG_ARGISNULL(categories))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a filter goes without types and categories"),
				 errhint("Put the types into its items.")));
	query = es_query_parse(&PG_GETARG_JSONB_P(filter)->root);
	for (int i = 0; i < query->nitems; i++)
	{
		check_names(query->items[i].types, query->items[i].ntypes, "type");
		check_names(query->items[i].tags, query->items[i].ntags, "tag");
	}
	kept.query = query;
	return kept;
}

/* The query in a column of jsonb, in the current memory context; NULL: it is null. */
const EsQuery *
es_kept_query(TupleTableSlot *row, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(row, column, &isnull);

	return isnull ? NULL : es_query_parse(&DatumGetJsonbPCopy(value)->root);
}

/* ---- comparing ---- */

static EsName *
unique_names(const EsName *names, int *n)
{
	EsName	   *unique = palloc(sizeof(EsName) * Max(*n, 1));

	for (int i = 0; i < *n; i++)
		unique[i] = names[i];
	*n = es_names_unique(unique, *n);
	return unique;
}

/* The same names, in any order and each any number of times?  NULL: all there are. */
static bool
same_names(const EsName *a, int na, const EsName *b, int nb)
{
	EsName	   *unique_a;
	EsName	   *unique_b;

	if (a == NULL || b == NULL)
		return a == b;
	unique_a = unique_names(a, &na);
	unique_b = unique_names(b, &nb);
	if (na != nb)
		return false;
	for (int i = 0; i < na; i++)
	{
		if (!es_name_equal(unique_a[i], unique_b[i]))
			return false;
	}
	return true;
}

/* The same items, in the same order? */
static bool
same_query(const EsQuery *a, const EsQuery *b)
{
	if (a == NULL || b == NULL)
		return a == b;
	if (a->nitems != b->nitems)
		return false;
	for (int i = 0; i < a->nitems; i++)
	{
		const EsQueryItem *x = &a->items[i];
		const EsQueryItem *y = &b->items[i];

		if (!same_names(x->types, x->ntypes, y->types, y->ntypes) ||
			!same_names(x->tags, x->ntags, y->tags, y->ntags))
			return false;
	}
	return true;
}

/* Add the arguments to the list in which a filter that there is differs from a new one. */
void
es_kept_compare(const EsFilter *existing, const EsFilter *new, List **differing)
{
	es_existing_differs(differing,
						!same_names(existing->types, existing->ntypes, new->types, new->ntypes), "types");
	es_existing_differs(differing,
						!same_names(existing->categories, existing->ncategories,
									new->categories, new->ncategories), "categories");
	es_existing_differs(differing, !same_query(existing->query, new->query), "filter");
}

/* ---- types that no event has ---- */

/* The types that a filter names, sorted, each once. */
static EsName *
types_of(const EsFilter *filter, int *n)
{
	EsName	   *types;

	*n = filter->ntypes;
	if (filter->query == NULL)
		return unique_names(filter->types, n);
	for (int i = 0; i < filter->query->nitems; i++)
		*n += filter->query->items[i].ntypes;
	types = palloc(sizeof(EsName) * Max(*n, 1));
	*n = 0;
	for (int i = 0; i < filter->query->nitems; i++)
	{
		const EsQueryItem *item = &filter->query->items[i];

		for (int j = 0; j < item->ntypes; j++)
			types[(*n)++] = item->types[j];
	}
	*n = es_names_unique(types, *n);
	return types;
}

/* Do upcasters, active or not, make events of this type? */
static bool
is_made(const EsUpcasts *upcasts, EsName type)
{
	for (int i = 0; upcasts != NULL && i < upcasts->n; i++)
	{
		if (es_name_equal(upcasts->list[i].to_type, type))
			return true;
	}
	return false;
}

/* Whoever may not read the table of types is not told by us what it holds. */
static bool
may_know_types(const EsCatalog *cat)
{
	return pg_class_aclcheck(cat->event_type, GetUserId(), ACL_SELECT) == ACLCHECK_OK &&
		check_enable_rls(cat->event_type, InvalidOid, true) != RLS_ENABLED;
}

static void
tell_empty(const EsName *names, int n, const char *what)
{
	if (names != NULL && n == 0)
		ereport(NOTICE,
				(errmsg("no event is taken: the list of %s is empty", what),
				 errhint("NULL stands for all.")));
}

/*
 * A NOTICE with those of the filter's types that no event has, nor gets by an upcaster, as
 * of this moment.  None in a store that has not seen an event yet: there nothing can be
 * told from a misspelt type.
 */
static void
tell_unknown_types(const EsCatalog *cat, const EsFilter *filter)
{
	int			n;
	EsName	   *types = types_of(filter, &n);
	EsUpcasts  *upcasts;
	StringInfoData named;
	int			unknown = 0;

	if (n == 0 || !may_know_types(cat) || es_dictionary_is_empty(cat))
		return;
	upcasts = es_upcasts_all(cat);
	initStringInfo(&named);
	for (int i = 0; i < n; i++)
	{
		if (is_made(upcasts, types[i]) || es_dictionary_has_type(cat, types[i]))
			continue;
		if (++unknown <= MAX_NAMED)
			appendStringInfo(&named, "%s\"" ES_NAME_FORMAT "\"", unknown > 1 ? ", " : "", ES_NAME_ARGS(types[i]));
	}
	if (unknown == 0)
		return;
	if (unknown > MAX_NAMED)
		appendStringInfoString(&named, ", ...");
	ereport(NOTICE,
			(errmsg_plural("no event has type %s yet", "no event has any of the types %s yet", unknown, named.data),
			 errhint("The view eventstore.event_types shows the types that there are.")));
}

/* What may have been meant otherwise, in a filter that is kept from now on: NOTICEs. */
void
es_kept_tell_doubts(const EsCatalog *cat, const EsFilter *filter)
{
	tell_empty(filter->types, filter->ntypes, "types");
	tell_empty(filter->categories, filter->ncategories, "categories");
	tell_unknown_types(cat, filter);
}
