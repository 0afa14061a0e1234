/*
 * count.c
 *		How many events a filter takes beyond a position, and how old the first is.
 *
 * By the index ranges that a reader with that filter goes over; events that were taken
 * away do not count.  Nothing of an event but its stream and columns of fixed width is read, no code
 * of users runs, and the work is bounded by the caller's limits.
 *
 * Locks: those of a read (cursor.c).
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "log/event.h"
#include "read/count.h"
#include "read/rows.h"

/*
 * Count the events of a range of positions.  The snapshot is registered.
 */
EsCounted
es_count_events(const EsCatalog *cat, const EsFilter *filter, EsRange positions,
				Snapshot snapshot, EsCountLimits limits, EsCountsEvent counts, void *arg)
{
	EsCounted	counted = {0};
	EsSelection selection = es_filter_select(filter, es_upcasts_begin(cat), cat, snapshot);
	EsCursor   *cursor = es_filter_open(&selection, cat, snapshot, positions, false);
	EsRows	   *rows = es_rows_into(cat, NULL, NULL, true);	/* for what is shown */
	TupleTableSlot *event = NULL;
	int64		looked_at = 0;

	es_rows_open(rows, snapshot);
	while (counted.events < limits.events && looked_at < limits.looked_at &&
		   (event = es_cursor_next(cursor)) != NULL)
	{
		CHECK_FOR_INTERRUPTS();
		looked_at++;
		if (selection.by_key &&
			!es_filter_takes_key(&selection, es_log_number(event, ES_LOG_COL_TYPE_KEY)))
			continue;
		if (selection.by_stream &&
			!es_filter_takes_stream(filter, es_log_stream(event)))
			continue;
		if (!es_rows_shows(rows, event) || (counts != NULL && !counts(event, arg)))
			continue;
		if (counted.events++ == 0)
		{
			counted.first = es_log_number(event, ES_LOG_COL_POSITION);
			counted.first_at = es_log_number(event, ES_LOG_COL_CREATED_AT);
		}
	}
	counted.complete = event == NULL;
	es_rows_close(rows);
	es_cursor_close(cursor);
	return counted;
}
