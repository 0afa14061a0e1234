/*
 * digest.h
 *		What tells values apart without keeping them.
 */
#ifndef ES_DIGEST_H
#define ES_DIGEST_H

#include "postgres.h"

extern bytea *es_digest_json(Datum json);

#endif							/* ES_DIGEST_H */
