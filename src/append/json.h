/*
 * json.h
 *		Events as a JSON array, one at a time.
 */
#ifndef ES_EVENTS_JSON_H
#define ES_EVENTS_JSON_H

#include "core/name.h"
#include "utils/jsonb.h"
#include "utils/uuid.h"

typedef struct EsJsonEvents EsJsonEvents;

/* An object of the array; what it lacks has its default. */
typedef struct EsJsonEvent
{
	EsName		type;			/* .bytes NULL: missing */
	Jsonb	   *data;
	Jsonb	   *metadata;		/* NULL: none */
	Datum	   *tags;			/* text */
	int			ntags;
	int32		schema_version;
	Datum		payload;		/* bytea; 0: none */
	Datum		content_type;	/* text; 0: none */
	bool		has_id;
	pg_uuid_t	id;
} EsJsonEvent;

extern EsJsonEvents *es_json_events_begin(Jsonb *array);
extern int	es_json_events_count(EsJsonEvents *events);
extern void es_json_events_next(EsJsonEvents *events, EsJsonEvent *event);
extern Datum *es_json_tags(Jsonb *array, int *n);

#endif							/* ES_EVENTS_JSON_H */
