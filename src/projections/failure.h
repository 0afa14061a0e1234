/*
 * failure.h
 *		What happens when a worker could not apply a batch.
 */
#ifndef ES_FAILURE_H
#define ES_FAILURE_H

#include "projections/figures.h"

extern void es_failure_handle(const EsCatalog *cat, EsFigures *figures, int64 events, int64 done,
							  const ErrorData *error);

#endif							/* ES_FAILURE_H */
