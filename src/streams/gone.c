/*
 * gone.c
 *		How many events were taken away: what a read model that is rebuilt will miss.
 *
 * Events that have been removed were counted by category at that moment; events that a
 * statement about their stream hides are counted when somebody asks.
 *
 * Locks: a row of eventstore.scavenged, after event_log and its events.
 * Crash: the count commits with the removal.
 */
#include "postgres.h"

#include "catalog/pg_type.h"
#include "utils/array.h"
#include "utils/builtins.h"

#include "core/spi.h"
#include "streams/gone.h"

static EsStatement count_removed = {
	"INSERT INTO eventstore.scavenged AS s (category, events) VALUES ($1, $2)"
	" ON CONFLICT (category) DO UPDATE SET events = s.events + $2",
	{TEXTOID, INT8OID}
};

static EsStatement count_gone = {
	"SELECT coalesce((SELECT sum(events) FROM eventstore.scavenged WHERE $2 OR category = ANY ($1)), 0)::int8"
	" + (SELECT count(*) FROM eventstore.hidden h"
	"    JOIN eventstore.event_log l ON l.stream_key = h.stream_key AND l.version < h.before_version"
	"    JOIN (SELECT DISTINCT ON (type_key) type_key, category FROM eventstore.event_type) t ON t.type_key = l.type_key"
	"    WHERE $2 OR coalesce(t.category, split_part(l.stream, '-', 1)) = ANY ($1))",
	{TEXTARRAYOID, BOOLOID}
};

/* Events of a stream have been removed. */
void
es_gone_count(EsName stream, int64 events)
{
	EsName		category = es_name_category(stream);
	Datum		values[2] = {PointerGetDatum(es_name_to_text(category)), Int64GetDatum(events)};
	EsSpi		spi;

	if (events == 0)
		return;
	es_spi_begin(&spi);
	(void) es_spi_run(&count_removed, values, NULL);
	es_spi_end(&spi);
}

/*
 * How many events of some categories (NULL: all) are not in the log any more, or are
 * hidden by a statement about their stream.
 */
int64
es_gone_of_categories(const EsName *categories, int ncategories)
{
	Datum	   *names = palloc(sizeof(Datum) * Max(ncategories, 1));
	Datum		values[2] = {0, BoolGetDatum(categories == NULL)};
	int64		gone;
	bool		isnull;
	EsSpi		spi;

	for (int i = 0; i < ncategories; i++)
		names[i] = PointerGetDatum(cstring_to_text_with_len(categories[i].bytes, categories[i].len));
	values[0] = PointerGetDatum(construct_array(names, ncategories, TEXTOID, -1, false, TYPALIGN_INT));
	es_spi_begin(&spi);
	(void) es_spi_look(&count_gone, values);
	gone = DatumGetInt64(es_spi_value(1, 1, &isnull));
	es_spi_end(&spi);
	return gone;
}
