/*
 * hidden.h
 *		What a statement about a stream hides: rows of eventstore.hidden.
 */
#ifndef ES_HIDDEN_H
#define ES_HIDDEN_H

#include "postgres.h"

#include "core/lookup.h"
#include "datatype/timestamp.h"

/* Columns of eventstore.hidden */
#define ES_HIDDEN_COL_BEFORE	2
#define ES_HIDDEN_COL_AT		3

typedef struct EsHidden
{
	int64		before;			/* earlier events are hidden; 0: none */
	TimestampTz at;				/* when the last of them were hidden */
} EsHidden;

/* "hidden" looks rows up by the keys of streams; NULL: there are none. */
static inline EsHidden
es_hidden_find(EsLookup *hidden, int64 stream_key)
{
	EsHidden	found = {0};
	TupleTableSlot *row = hidden == NULL ? NULL : es_lookup_number(hidden, stream_key);
	bool		isnull;

	if (row != NULL)
	{
		found.before = DatumGetInt64(slot_getattr(row, ES_HIDDEN_COL_BEFORE, &isnull));
		found.at = DatumGetTimestampTz(slot_getattr(row, ES_HIDDEN_COL_AT, &isnull));
	}
	return found;
}

#endif							/* ES_HIDDEN_H */
