/*
 * slot.h
 *		Columns of a row.
 */
#ifndef ES_SLOT_H
#define ES_SLOT_H

#include "postgres.h"
#include "executor/tuptable.h"

/* 0, false or NULL, where the column is null. */
static inline Datum
es_slot_or_0(TupleTableSlot *slot, int column)
{
	bool		isnull;
	Datum		value = slot_getattr(slot, column, &isnull);

	return isnull ? (Datum) 0 : value;
}

#endif							/* ES_SLOT_H */
