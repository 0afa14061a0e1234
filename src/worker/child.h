/*
 * child.h
 *		The processes that the launcher starts.
 */
#ifndef ES_CHILD_H
#define ES_CHILD_H

#include "worker/demand.h"

extern bool es_child_start_scheduler(EsJob *job);
extern EsShortage es_child_start_worker(EsJob *job);
extern void es_children_take_in(void);
extern void es_children_reap(void);

#endif							/* ES_CHILD_H */
