/*
 * call.h
 *		The functions that append, as nodes of a plan.
 */
#ifndef ES_APPEND_CALL_H
#define ES_APPEND_CALL_H

extern void es_append_init(void);

#endif							/* ES_APPEND_CALL_H */
