/*
 * depend.h
 *		Objects that a projection names are not dropped without the projection.
 */
#ifndef ES_DEPEND_H
#define ES_DEPEND_H

extern void es_depend_init(void);

#endif							/* ES_DEPEND_H */
