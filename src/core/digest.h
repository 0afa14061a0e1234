/*
 * digest.h
 *		Digests that tell values apart without keeping them.
 */
#ifndef ES_DIGEST_H
#define ES_DIGEST_H

#include "postgres.h"

extern bytea *es_digest_json(Datum json);
extern bytea *es_digest_bytes(Datum bytes);
extern bytea *es_digest_text(const char *string);
extern bool es_digest_equal(const bytea *a, const bytea *b);

#endif							/* ES_DIGEST_H */
