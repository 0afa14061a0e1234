/*
 * call.h
 *		Running the code of a projection.
 */
#ifndef ES_CALL_H
#define ES_CALL_H

#include "projections/definition.h"
#include "read/batch.h"
#include "utils/jsonb.h"

extern void es_call_apply(const EsProjection *projection, const EsCatalog *cat, EsBatch *batch);
extern void es_call_reset(const EsProjection *projection);
extern int64 es_call_failed_position(void);
extern void es_call_forget_failure(void);
extern Jsonb *es_call_cause(void);

#endif							/* ES_CALL_H */
