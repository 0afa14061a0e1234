/*
 * session.h
 *		What the sessions of schedulers and workers have in common.
 */
#ifndef ES_SESSION_H
#define ES_SESSION_H

#include "postgres.h"

/* Time without anything to do after which a scheduler or a worker leaves. */
#define ES_LINGER_MS	6000

extern void es_session_set_up(void);
extern void es_session_begin(void);
extern void es_session_finish(void);

#endif							/* ES_SESSION_H */
