/*
 * guard.h
 *		What keeps the log append-only.
 */
#ifndef ES_GUARD_H
#define ES_GUARD_H

extern void es_guard_init(void);

#endif							/* ES_GUARD_H */
