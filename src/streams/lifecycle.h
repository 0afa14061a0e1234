/*
 * lifecycle.h
 *		Taking events away: statements about a stream.
 */
#ifndef ES_LIFECYCLE_H
#define ES_LIFECYCLE_H

#include "log/stream.h"

/* A stream that is held for a statement about it. */
typedef struct EsHeldStream
{
	const EsCatalog *cat;
	EsStreams  *streams;
	EsStream	stream;
	int64		version;
} EsHeldStream;

extern const EsCatalog *es_lifecycle_begin(const char *function);
extern void es_lifecycle_hold(EsHeldStream *held, const char *function, EsName name);

#endif							/* ES_LIFECYCLE_H */
