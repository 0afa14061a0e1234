/*
 * inline.h
 *		Projections that are applied in the transaction that appends.
 */
#ifndef ES_INLINE_H
#define ES_INLINE_H

#include "append/append.h"

extern void es_inline_apply(const EsCatalog *cat, const EsAppend *call);

#endif							/* ES_INLINE_H */
