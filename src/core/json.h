/*
 * json.h
 *		Parts of a JSON value that an argument holds.
 */
#ifndef ES_JSON_H
#define ES_JSON_H

#include "core/name.h"
#include "utils/jsonb.h"

extern bool es_json_key_is(const JsonbValue *key, const char *name);
extern EsName es_json_string(const JsonbValue *value);
extern EsName *es_json_strings(const JsonbValue *value, int *n);
extern bool es_json_whole_number(const JsonbValue *value, int64 *number);

#endif							/* ES_JSON_H */
