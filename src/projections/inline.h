/*
 * inline.h
 *		Projections that are applied in the transaction that appends.
 */
#ifndef ES_INLINE_H
#define ES_INLINE_H

#include "log/append.h"
#include "projections/definition.h"
#include "projections/figures.h"

extern void es_inline_apply(const EsCatalog *cat, EsAppend *call);
extern bool es_inline_try_switch(const EsCatalog *cat, int id);
extern bool es_inline_switch(const EsCatalog *cat, int id, EsFigures *figures, char **in_the_way);
extern void es_inline_lock_out(const EsCatalog *cat);

#endif							/* ES_INLINE_H */
