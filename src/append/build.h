/*
 * build.h
 *		From the parts of events to an EsAppend.
 */
#ifndef ES_BUILD_H
#define ES_BUILD_H

#include "append/append.h"

/* Streams of a call by name: open addressing over indexes in call->streams. */
typedef struct EsStreamTable
{
	uint32		mask;
	int		   *slots;			/* index + 1; 0: free */
} EsStreamTable;

extern void es_build_room(EsAppend *call, int n);
extern EsEvent *es_build_event(EsAppend *call);
extern EsEvent *es_build_events(EsAppend *call, int n);
extern void es_build_expected_version(EsEvent *event, int64 version);
extern void es_build_schema_version(EsEvent *event, int32 version);
extern void es_build_created_at(EsEvent *event, TimestampTz at);
extern void es_build_metadata(const EsAppend *call, EsEvent *event, Jsonb *own);
extern void es_build_tags(EsEvent *event, Datum *tags, const bool *nulls, int n);
extern void es_build_check(const EsEvent *event);

extern void es_build_stream(EsAppend *call, EsName name);
extern void es_build_link(EsAppend *call, int event_no, int stream_no);
extern void es_build_keep(EsAppend *call, int n);
extern void es_build_streams(EsAppend *call, EsStreamTable *table, int n);
extern int	es_build_find_stream(EsAppend *call, EsStreamTable *table, EsName name);

#endif							/* ES_BUILD_H */
