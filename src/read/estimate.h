/*
 * estimate.h
 *		How many events a read will find, as far as the planner can know.
 */
#ifndef ES_ESTIMATE_H
#define ES_ESTIMATE_H

#include "nodes/primnodes.h"
#include "read/conditions.h"

extern bool es_estimate_is_refused(void);
extern double es_estimate_rows(const FuncExpr *call, const EsReadHow *how,
							   const EsFoundConditions *conditions);

#endif							/* ES_ESTIMATE_H */
