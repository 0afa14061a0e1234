/*
 * pool.h
 *		The workers that run projections: how many there are, and who they are.
 */
#ifndef ES_POOL_H
#define ES_POOL_H

#include "datatype/timestamp.h"

/* The workers of a database. */
typedef struct EsWorkers
{
	int			starting;
	int			all;			/* these included */
} EsWorkers;

/* Processes, and those that were asked to make way a moment ago. */
typedef struct EsAsked
{
	int			there;			/* all, */
	int			idle;			/* that were asked while they had nothing to do, */
	int			busy;			/* and that first end what they do */
} EsAsked;

extern void es_pool_init(void);

/* scheduler and launcher */
extern int	es_pool_wake(Oid dboid, int n);

/* launcher */
extern EsWorkers es_pool_count(Oid dboid);
extern int	es_pool_take(Oid dboid, uint32 *use);
extern bool es_pool_give_back(int number, uint32 use);
extern void es_pool_note_asked(EsAsked *asked, TimestampTz since, bool was_idle);
extern void es_pool_count_asked(EsAsked *asked);
extern bool es_pool_ask(Oid dboid, bool idle, bool has_others, long share_ms);

/* worker */
extern bool es_pool_enter(int number, Oid dboid);
extern bool es_pool_set_idle(bool idle);
extern bool es_pool_is_to_leave(void);

/* a statement that needs a database to itself */
extern int	es_pool_end(Oid dboid);

#endif							/* ES_POOL_H */
