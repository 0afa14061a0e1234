/*
 * payload.h
 *		The bytes that an event carries, and their content type.
 */
#ifndef ES_PAYLOAD_H
#define ES_PAYLOAD_H

#include "append/append.h"

extern void es_payload_set(EsEvent *event, Datum payload, Datum content_type);
extern Datum es_payload_from_base64(EsName base64);

#endif							/* ES_PAYLOAD_H */
