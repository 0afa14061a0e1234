/*
 * subxact.h
 *		Trying something in a subtransaction.
 */
#ifndef ES_SUBXACT_H
#define ES_SUBXACT_H

#include "postgres.h"

/* True: what was done stays.  False: it is rolled back, though nothing was wrong. */
typedef bool (*EsAttempt) (void *arg);

extern ErrorData *es_subxact_try(const char *name, EsAttempt run, void *arg);

#endif							/* ES_SUBXACT_H */
