/*
 * way.h
 *		Having processes make way for others that wait.
 */
#ifndef ES_WAY_H
#define ES_WAY_H

#include "log/database.h"

extern bool es_way_make(EsShortage shortage);

#endif							/* ES_WAY_H */
