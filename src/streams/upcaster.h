/*
 * upcaster.h
 *		Which upcasters there are, for those who register and apply them.
 */
#ifndef ES_UPCASTER_H
#define ES_UPCASTER_H

#include "eventstore.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "streams/upcast.h"

typedef struct EsUpcaster
{
	EsName		type;
	int32		from_schema;
	EsName		to_type;
	int32		to_schema;
	char	   *function;		/* qualified */
	char	   *owner;
	char	   *search_path;
	FmgrInfo   *call;			/* looked up by this call; NULL: not yet */
} EsUpcaster;

struct EsUpcasts
{
	int			n;
	EsUpcaster *list;
	MemoryContext context;		/* of the copy */
	MemoryContext per_event;	/* of what the last event has become */
	TupleTableSlot *slot;		/* the same as a row; NULL: not asked for yet */
};

extern EsUpcaster *es_upcaster_find(const EsUpcasts *upcasts, EsName type, int32 schema_version);
extern Oid	es_upcaster_function(const char *name);
extern void es_upcaster_require_execute(Oid function, const char *name);

#endif							/* ES_UPCASTER_H */
