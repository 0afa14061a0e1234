/*
 * fetch.h
 *		es_fetch, as a node of a plan.
 */
#ifndef ES_FETCH_H
#define ES_FETCH_H

extern void es_fetch_init(void);

#endif							/* ES_FETCH_H */
