/*
 * writer.h
 *		Storing events.
 */
#ifndef ES_WRITER_H
#define ES_WRITER_H

#include "append/append.h"
#include "utils/relcache.h"

extern void es_writer_store(EsAppend *call, const EsCatalog *cat, Relation log);

extern bool es_writer_fires(Relation log);
extern bool es_writer_fires_before_row(Relation log);

#endif							/* ES_WRITER_H */
