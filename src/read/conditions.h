/*
 * conditions.h
 *		Conditions on top of a read that need not be looked for in vain.
 */
#ifndef ES_CONDITIONS_H
#define ES_CONDITIONS_H

#include "nodes/execnodes.h"
#include "nodes/pathnodes.h"
#include "read/reader.h"

/* What a condition says of an event. */
typedef enum EsConditionKind
{
	ES_CONDITION_TYPE,			/* its type is the one given */
	ES_CONDITION_TYPES,			/* its type is among those given */
	ES_CONDITION_STREAM,		/* its stream is the one given */
	ES_CONDITION_ABOVE,			/* its place is greater than the one given */
	ES_CONDITION_FROM,
	ES_CONDITION_AT,
	ES_CONDITION_UPTO,
	ES_CONDITION_BELOW
} EsConditionKind;

/* Which conditions a read can use. */
typedef struct EsConditionUse
{
	int			place_column;	/* of es_event: position, or version */
	bool		types;
	bool		streams;
	bool		lower;			/* a place that no event is below, and one that none is above */
	bool		upper;
	bool		fixed_only;		/* only values that stay the same for the whole statement */
} EsConditionUse;

/*
 * Conditions that were found: expressions, and what they say, as numbers (a plan can be
 * copied).
 */
typedef struct EsFoundConditions
{
	List	   *values;			/* expressions */
	List	   *kinds;			/* of each: an EsConditionKind */
	List	   *used;			/* the clauses that they are from: RestrictInfos */
} EsFoundConditions;

extern EsFoundConditions es_conditions_find(RelOptInfo *rel, const EsConditionUse *use);
extern EsConditions es_conditions_of_constants(const EsFoundConditions *found);
extern EsConditions es_conditions_evaluate(List *values, List *kinds, ExprContext *econtext);

#endif							/* ES_CONDITIONS_H */
