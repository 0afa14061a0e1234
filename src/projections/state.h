/*
 * state.h
 *		The states of reducers: one for each key.
 */
#ifndef ES_PROJECTION_STATE_H
#define ES_PROJECTION_STATE_H

#include "fmgr.h"
#include "projections/definition.h"
#include "read/batch.h"

typedef struct EsStates EsStates;

extern void es_state_check_partition(const char *partition_by);
extern EsStates *es_states_load(const EsProjection *projection, EsBatch *batch, bool lock);
extern void es_states_fold(EsStates *states, FmgrInfo *reducer, TupleTableSlot *event, Datum composite);
extern void es_states_store(EsStates *states);
extern void es_states_remove(const EsProjection *projection);
extern Datum es_state_fold(FmgrInfo *reducer, Datum state, bool *isnull, Datum event);

#endif							/* ES_PROJECTION_STATE_H */
