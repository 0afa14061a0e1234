/*
 * estimate.c
 *		How many events a read will find, as far as the planner can know.
 *
 * From the arguments and conditions that are constants, and from the statistics that ANALYZE
 * has gathered of the store's tables:
 *	- a range of positions holds at most as many events as it is wide, up to the head; one of
 *	  versions likewise, and a stream has as many events as streams have on average;
 *	- types and categories have the frequencies of their type keys, tags those of their hashes.
 * A read with max_count counts as a full page, wherever it begins: were a page near the head held
 * to be cheap, a prepared statement of a consumer who has read all would be planned anew at each
 * execution (choose_custom_plan in utils/cache/plancache.c).  What is not a constant counts as an
 * average one.  These are estimates: nothing but the choice of a plan depends on them, and no
 * argument is refused here.
 *
 * Locks: AccessShare on event_log and event_tag, held to the end of the transaction, and those of
 * the dictionary.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/pg_statistic.h"
#include "catalog/pg_type_d.h"
#include "optimizer/optimizer.h"
#include "optimizer/plancat.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/selfuncs.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "log/event.h"
#include "log/head.h"
#include "log/tags.h"
#include "read/estimate.h"
#include "streams/visible.h"

/* Rows of a page whose max_count is not known. */
#define USUAL_PAGE		100

/* Columns of eventstore.event_tag */
#define TAG_COL_TAG		1

/* ---- statistics ---- */

/* Of a table or an index. */
static double
tuples_of(Oid relation)
{
	Relation	rel = relation_open(relation, AccessShareLock);
	BlockNumber pages;
	double		tuples;
	double		visible;

	estimate_rel_size(rel, NULL, &pages, &tuples, &visible);
	relation_close(rel, NoLock);
	return Max(tuples, 1);
}

/* What ANALYZE knows of a column. */
typedef struct ColumnStatistics
{
	HeapTuple	tuple;			/* NULL: nothing */
	double		distinct;		/* number of different values */
} ColumnStatistics;

static ColumnStatistics
statistics_of(Oid relation, AttrNumber column, double tuples)
{
	ColumnStatistics known = {.distinct = Min(tuples, DEFAULT_NUM_DISTINCT)};
	double		distinct;

	known.tuple = SearchSysCache3(STATRELATTINH, ObjectIdGetDatum(relation), Int16GetDatum(column), BoolGetDatum(false));
	if (!HeapTupleIsValid(known.tuple))
		return known;
	distinct = ((Form_pg_statistic) GETSTRUCT(known.tuple))->stadistinct;
	if (distinct != 0)
		known.distinct = distinct > 0 ? distinct : -distinct * tuples;
	known.distinct = Max(Min(known.distinct, tuples), 1);
	return known;
}

static void
release_statistics(ColumnStatistics *known)
{
	if (HeapTupleIsValid(known->tuple))
		ReleaseSysCache(known->tuple);
}

/* The share of the rows that have one of these values, bigints. */
static double
share_of_values(const ColumnStatistics *known, const int64 *values, int n)
{
	AttStatsSlot common = {0};
	double		share = 0;
	double		common_share = 0;
	double		others = known->distinct;
	int			found = 0;

	if (HeapTupleIsValid(known->tuple) &&
		get_attstatsslot(&common, known->tuple, STATISTIC_KIND_MCV, InvalidOid,
						 ATTSTATSSLOT_VALUES | ATTSTATSSLOT_NUMBERS))
	{
		for (int i = 0; i < common.nvalues; i++)
		{
			common_share += common.numbers[i];
			for (int j = 0; j < n; j++)
			{
				if (values[j] != DatumGetInt64(common.values[i]))
					continue;
				share += common.numbers[i];
				found++;
			}
		}
		others = Max(known->distinct - common.nvalues, 1);
		free_attstatsslot(&common);
	}
	share += (n - found) * Max(1 - common_share, 0) / others;
	return Min(share, 1);
}

/* ---- constants ---- */

/* A constant argument; NULL: there is no such argument, or it is no constant. */
static const Const *
constant(const FuncExpr *call, int argno)
{
	Node	   *arg = argno < 0 ? NULL : list_nth(call->args, argno);

	return arg != NULL && IsA(arg, Const) ? (const Const *) arg : NULL;
}

/* Is there an argument that says something, be it a constant or not? */
static bool
is_given(const FuncExpr *call, int argno)
{
	const Const *value = constant(call, argno);

	return argno >= 0 && (value == NULL || !value->constisnull);
}

/* A bigint, if it is known; else what it is by default. */
static int64
known_place(const FuncExpr *call, int argno, int64 otherwise)
{
	const Const *value = constant(call, argno);

	return value == NULL || value->constisnull ? otherwise : Max(DatumGetInt64(value->constvalue), 0);
}

/* The names in a text[]; NULL: they are not known. */
static EsName *
known_names(const Const *value, int *n)
{
	Datum	   *texts;
	bool	   *nulls;
	EsName	   *names;
	int			length;

	*n = 0;
	if (value == NULL || value->constisnull)
		return NULL;
	deconstruct_array(DatumGetArrayTypeP(value->constvalue), TEXTOID, -1, false, TYPALIGN_INT,
					  &texts, &nulls, &length);
	names = palloc(sizeof(EsName) * Max(length, 1));
	for (int i = 0; i < length; i++)
	{
		if (!nulls[i])
			names[(*n)++] = es_name_from_text(texts[i]);
	}
	return names;
}

/* ---- shares of the log ---- */

typedef struct Estimate
{
	const EsCatalog *cat;
	double		tuples;			/* of event_log */
	double		per_stream;		/* events */
	ColumnStatistics types;
	const EsUpcasts *upcasts;
	Snapshot	snapshot;
} Estimate;

static double
share_of_filter(const Estimate *estimate, const EsFilter *filter)
{
	EsSelection selection = es_filter_select(filter, estimate->upcasts, estimate->cat, estimate->snapshot);

	if (selection.nstream_keys >= 0)
		return Min(selection.nstream_keys * estimate->per_stream / estimate->tuples, 1);
	if (selection.everything)
		return 1;
	return share_of_values(&estimate->types, selection.type_keys, selection.ntype_keys);
}

/* Of an item with tags: that of its rarest one. */
static double
share_of_query(const Estimate *estimate, const EsQuery *query, const EsConditions *conditions)
{
	double		tag_tuples = tuples_of(estimate->cat->event_tag);
	ColumnStatistics tags = statistics_of(estimate->cat->event_tag, TAG_COL_TAG, tag_tuples);
	double		share = 0;

	for (int i = 0; i < query->nitems; i++)
	{
		const EsQueryItem *item = &query->items[i];
		EsFilter	filter = {.types = item->types, .ntypes = item->ntypes,
		.shown_types = conditions->types, .nshown_types = conditions->ntypes};
		double		of_item = share_of_filter(estimate, &filter);

		for (int j = 0; j < item->ntags; j++)
			of_item = Min(of_item, share_of_values(&tags, &item->hashes[j], 1) * tag_tuples / estimate->tuples);
		share += of_item;
	}
	release_statistics(&tags);
	return Min(share, 1);
}

/* What the filter of the call and the conditions leave of the events of a range. */
static double
share_of_call(const Estimate *estimate, const FuncExpr *call, const EsReadHow *how,
			  const EsConditions *conditions)
{
	const Const *query = constant(call, how->query);
	const Const *category = constant(call, how->category);
	const Const *group_size = constant(call, how->group_size);
	EsFilter	filter = {.shown_types = conditions->types, .nshown_types = conditions->ntypes};
	EsName		only;
	double		share;

	if (is_given(call, how->query))
	{
		EsQuery    *known = query == NULL ? NULL : es_query_parse_if(&DatumGetJsonbP(query->constvalue)->root);

		return known == NULL ? 1 / estimate->types.distinct : share_of_query(estimate, known, conditions);
	}
	filter.types = known_names(constant(call, how->types), &filter.ntypes);
	filter.categories = known_names(constant(call, how->categories), &filter.ncategories);
	if (category != NULL && !category->constisnull)
	{
		only = es_name_from_text(category->constvalue);
		filter.categories = &only;
		filter.ncategories = 1;
	}
	share = share_of_filter(estimate, &filter);
	if ((filter.types == NULL && is_given(call, how->types)) ||
		(filter.categories == NULL && (is_given(call, how->categories) || is_given(call, how->category))))
		share = Min(share, 1 / estimate->types.distinct);
	if (group_size != NULL && !group_size->constisnull)
		share /= Max(DatumGetInt32(group_size->constvalue), 1);
	return share;
}

/* Events with the same correlation_id; other keys count as alike. */
static double
events_per_correlation(const EsCatalog *cat)
{
	double		tuples = tuples_of(cat->event_log_correlation);
	ColumnStatistics values = statistics_of(cat->event_log_correlation, 1, tuples);
	double		rows = tuples / values.distinct;

	release_statistics(&values);
	return rows;
}

/* ---- the whole ---- */

/* How many places there are in the range of the call and the conditions. */
static double
width_of_range(const FuncExpr *call, const EsReadHow *how, const EsConditions *conditions, int64 last)
{
	const Const *backwards = constant(call, how->backwards);
	int64		after = conditions->after;
	int64		upto = Min(conditions->upto, last);

	if (backwards != NULL && !backwards->constisnull && DatumGetBool(backwards->constvalue))
	{
		after = Max(after, known_place(call, how->up_to, 0) - 1);
		upto = Min(upto, known_place(call, how->after, PG_INT64_MAX) - 1);
	}
	else if (how->backwards < 0 || backwards != NULL)
	{
		after = Max(after, known_place(call, how->after, 0) -
					(how->place_column == ES_EVENT_COL_VERSION ? 1 : 0));
		upto = Min(upto, known_place(call, how->up_to, PG_INT64_MAX));
	}
	return Max((double) upto - (double) after, 0);
}

/*
 * Must nothing be told of what the log holds?  As PostgreSQL uses no statistics where row-level
 * security applies.
 */
bool
es_estimate_is_refused(void)
{
	return es_rows_under_row_security(es_catalog_lock(AccessShareLock));
}

/*
 * The number of events that a call will return which meet the conditions.
 */
double
es_estimate_rows(const FuncExpr *call, const EsReadHow *how, const EsFoundConditions *found)
{
	const EsCatalog *cat = es_catalog_lock(AccessShareLock);
	Estimate	estimate = {.cat = cat};
	const Const *max_count = constant(call, how->max_count);
	EsConditions conditions = es_conditions_of_constants(found);
	ColumnStatistics stream_keys;
	double		rows;

	estimate.tuples = tuples_of(cat->event_log);
	stream_keys = statistics_of(cat->event_log, ES_LOG_COL_STREAM_KEY, estimate.tuples);
	estimate.per_stream = estimate.tuples / stream_keys.distinct;
	release_statistics(&stream_keys);
	estimate.types = statistics_of(cat->event_log, ES_LOG_COL_TYPE_KEY, estimate.tuples);
	estimate.upcasts = es_upcasts_begin(cat);
	estimate.snapshot = RegisterSnapshot(GetActiveSnapshot());

	if (how->place_column == ES_EVENT_COL_VERSION)
		rows = width_of_range(call, how, &conditions, (int64) estimate.per_stream);
	else if (is_given(call, how->max_count))
		rows = estimate.tuples;
	else
		rows = Min(estimate.tuples, width_of_range(call, how, &conditions, es_head_glance(cat)));
	rows *= share_of_call(&estimate, call, how, &conditions);
	if (list_member_int(found->kinds, ES_CONDITION_STREAM))
		rows = Min(rows, estimate.per_stream);
	if (how->place_column != ES_EVENT_COL_VERSION && !how->takes_types)
		rows = Min(rows, events_per_correlation(cat));

	if (is_given(call, how->max_count))
		rows = Min(rows, max_count == NULL ? USUAL_PAGE : Max(DatumGetInt32(max_count->constvalue), 0));
	release_statistics(&estimate.types);
	UnregisterSnapshot(estimate.snapshot);
	return clamp_row_est(rows);
}
