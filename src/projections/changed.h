/*
 * changed.h
 *		Telling the processes that the list of projections has changed.
 */
#ifndef ES_CHANGED_H
#define ES_CHANGED_H

extern void es_changed_init(void);
extern void es_changed_note(void);

#endif							/* ES_CHANGED_H */
