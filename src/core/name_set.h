/*
 * name_set.h
 *		Sets of names.
 */
#ifndef ES_NAME_SET_H
#define ES_NAME_SET_H

#include "core/name.h"

typedef struct EsNameSet EsNameSet;

extern EsNameSet *es_name_set_create(const char *what);
extern void es_name_set_add(EsNameSet *set, EsName name);
extern bool es_name_set_has(const EsNameSet *set, EsName name);

#endif							/* ES_NAME_SET_H */
