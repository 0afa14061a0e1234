/*
 * condition.h
 *		Appends on condition that nothing which matters was added meanwhile.
 */
#ifndef ES_CONDITION_H
#define ES_CONDITION_H

#include "eventstore.h"
#include "core/catalog.h"
#include "read/query.h"

typedef struct EsCondition
{
	const EsQuery *query;
	int64		after;			/* matching events beyond it fail the append */
} EsCondition;

struct EsAppend;

extern const EsCondition *es_condition_argument(FunctionCallInfo fcinfo, int argno);
extern void es_condition_lock(const struct EsAppend *call, const EsCatalog *cat);
extern void es_condition_lock_tags(const EsCatalog *cat, Datum tags);
extern void es_condition_check(const struct EsAppend *call, const EsCatalog *cat);

#endif							/* ES_CONDITION_H */
