/*
 * switch.h
 *		How a projection becomes one that appends apply, and ceases to be.
 */
#ifndef ES_SWITCH_H
#define ES_SWITCH_H

#include "projections/definition.h"
#include "projections/figures.h"

extern bool es_switch_try(const EsCatalog *cat, int id);
extern bool es_switch_to_inline(const EsCatalog *cat, int id, EsFigures *figures, char **in_the_way);
extern void es_switch_lock_out(const EsCatalog *cat);

#endif							/* ES_SWITCH_H */
