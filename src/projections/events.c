/*
 * events.c
 *		The events of the log that a projection takes.
 *
 * Invariants
 * 1. A batch from the log ends at the head or at its last event; "upto" is how far
 *    it looked, also past events that the filter leaves out.
 * 2. The events of a parked stream are not in the batch, but in the list "parked".
 * 3. The batch holds events as they are stored.  They are upcast where an error is known
 *    to be about one of them (call.c).
 *
 * Locks: those of a read (read/cursor.c).
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "miscadmin.h"

#include "log/event.h"
#include "projections/events.h"
#include "read/wanted.h"

static EsParked *
make_parked(int64 position, EsName stream)
{
	EsParked   *parked = palloc(sizeof(EsParked));

	parked->position = position;
	parked->stream = pnstrdup(stream.bytes, stream.len);
	return parked;
}

/*
 * The projection's events beyond "after", up to "upto", at most "limit".  Assumes that the
 * snapshot is registered and sees all events up to "upto".
 */
EsTaken
es_events_read(const EsCatalog *cat, const EsProjection *projection, int64 after, int64 upto,
			   Snapshot snapshot, int64 limit, const EsNameSet *parked_streams)
{
	EsBatch    *batch = es_batch_empty(cat);
	EsTaken		taken = {.batch = batch};
	EsRange		range = {after, upto, false};
	EsRows	   *rows = es_rows_into(cat, batch->store, batch->desc, true);
	EsWanted   *wanted;
	TupleTableSlot *event = NULL;
	int64		looked_at = 0;

	es_rows_open(rows, snapshot);
	wanted = es_wanted_begin(cat, &projection->filter, es_upcasts_begin(cat), snapshot);
	es_wanted_read(wanted, range);
	while (looked_at < limit && (event = es_wanted_next(wanted)) != NULL)
	{
		batch->upto = es_log_number(event, ES_LOG_COL_POSITION);
		looked_at++;
		if (!es_rows_shows(rows, event))
			continue;
		if (parked_streams != NULL && es_name_set_has(parked_streams, es_log_stream(event)))
		{
			taken.parked = lappend(taken.parked, make_parked(batch->upto, es_log_stream(event)));
			continue;
		}
		es_rows_put(rows, event);
		batch->count++;
	}
	taken.complete = event == NULL;
	if (taken.complete)
		batch->upto = Max(upto, after);
	es_wanted_end(wanted);
	es_rows_close(rows);
	return taken;
}
