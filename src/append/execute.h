/*
 * execute.h
 *		Carrying an append out.
 */
#ifndef ES_EXECUTE_H
#define ES_EXECUTE_H

#include "append/append.h"

extern void es_append_execute(EsAppend *call);

#endif							/* ES_EXECUTE_H */
