/*
 * declare.h
 *		What a projection may be told, when it is created and later.
 */
#ifndef ES_DECLARE_H
#define ES_DECLARE_H

#include "projections/definition.h"

extern void es_declare_check_batch_size(int batch_size);
extern EsOnError es_declare_parse_on_error(const char *on_error);
extern void es_declare_check_max_retries(int max_retries);

#endif							/* ES_DECLARE_H */
