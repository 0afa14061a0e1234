/*
 * condition.h
 *		Appends on condition that nothing which matters was added meanwhile.
 */
#ifndef ES_CONDITION_H
#define ES_CONDITION_H

#include "append/append.h"
#include "fmgr.h"
#include "utils/relcache.h"

extern const EsCondition *es_condition_argument(FunctionCallInfo fcinfo, int argno);
extern void es_condition_lock(const EsAppend *call, const EsCatalog *cat, Relation log);
extern void es_condition_lock_tags(const EsCatalog *cat, const EsEvent *event);
extern void es_condition_check(const EsAppend *call, const EsCatalog *cat);

#endif							/* ES_CONDITION_H */
