/*
 * depend.h
 *		What a projection names is not dropped without it.
 */
#ifndef ES_DEPEND_H
#define ES_DEPEND_H

extern void es_depend_init(void);

#endif							/* ES_DEPEND_H */
