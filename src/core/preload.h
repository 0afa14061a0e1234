/*
 * preload.h
 *		What to do where the server does not preload the library.
 */
#ifndef ES_PRELOAD_H
#define ES_PRELOAD_H

#include "postgres.h"

extern char *es_preload_statement(void);

#endif							/* ES_PRELOAD_H */
