/*
 * gone.h
 *		How many events were taken away.
 */
#ifndef ES_GONE_H
#define ES_GONE_H

#include "core/name.h"

extern void es_gone_count(EsName stream, int64 events);
extern int64 es_gone_of_categories(const EsName *categories, int ncategories);

#endif							/* ES_GONE_H */
