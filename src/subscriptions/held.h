/*
 * held.h
 *		Events that need another delivery, or are parked.
 */
#ifndef ES_HELD_H
#define ES_HELD_H

#include "core/error.h"
#include "datatype/timestamp.h"
#include "subscriptions/subscription.h"

/* A held event: a row of subscription_event that is not parked. */
typedef struct EsHeld
{
	int64		position;
	int64		stream_key;
	TimestampTz not_before;		/* DT_NOBEGIN: at once */
} EsHeld;

#define ES_FIRST_DELAY_MS	100

/* Why deliveries have failed, and what follows. */
typedef struct EsFailure
{
	bool		park;			/* park at once, whatever max_retries says */
	int			delay_ms;		/* before the first retry; it doubles */
	const char *reason;			/* NULL: none given; or the error says */
	const EsError *error;		/* of an upcaster; NULL: it is not that */
	const char *consumer;
} EsFailure;

extern bool es_held_due(const EsSubscription *subscription, int partition, Datum pending,
						TimestampTz *due);
extern EsHeld *es_held_read(const EsSubscription *subscription, int partition, int *n);
extern int	es_held_count(const EsSubscription *subscription, int partition, int64 *first);
extern void es_held_wait(const EsSubscription *subscription, int partition,
						 const int64 *positions, const int64 *stream_keys, int n);
extern int	es_held_fail(const EsSubscription *subscription, int partition,
						 int64 *positions, int64 *stream_keys, int n, const EsFailure *failure);
extern void es_held_remove(const EsSubscription *subscription, const int64 *positions, int n);
extern void es_held_remove_all(const EsSubscription *subscription, bool parked);
extern int64 *es_held_parked(const EsSubscription *subscription, int partition,
							 const int64 *wanted, int nwanted, int *n);
extern void es_held_replay(const EsSubscription *subscription, const int64 *positions, int n, int64 delivered);
extern int64 es_held_discard(const EsSubscription *subscription, const int64 *positions, int n);
extern void es_held_init(void);

#endif							/* ES_HELD_H */
