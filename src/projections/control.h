/*
 * control.h
 *		Statements about a projection.
 */
#ifndef ES_CONTROL_H
#define ES_CONTROL_H

#include "fmgr.h"
#include "projections/definition.h"
#include "projections/progress.h"

extern const EsProjection *es_control_find(const EsCatalog *cat, FunctionCallInfo fcinfo);
extern const EsProjection *es_control_lock(const EsCatalog *cat, const EsProjection *projection,
										   EsProgress *progress);
extern const EsProjection *es_control_lock_out(const EsCatalog *cat, const EsProjection *projection,
											   EsProgress *progress);
extern const EsProjection *es_control_take_from_appends(const EsCatalog *cat,
														const EsProjection *projection,
														EsProgress *progress);
extern void es_control_settle(const EsCatalog *cat);
extern Oid	es_control_remove(const EsCatalog *cat, const EsProjection *projection);
extern void es_control_drop(const EsCatalog *cat, const EsProjection *projection);
extern void es_control_refuse_stopped(const EsProjection *projection);

#endif							/* ES_CONTROL_H */
