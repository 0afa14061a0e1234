/*
 * upcaster.h
 *		Which upcasters there are, for those who register and apply them.
 */
#ifndef ES_UPCASTER_H
#define ES_UPCASTER_H

#include "core/catalog.h"
#include "core/name.h"
#include "executor/tuptable.h"
#include "fmgr.h"

typedef struct EsUpcaster
{
	EsName		type;
	int32		from_schema;
	EsName		to_type;
	int32		to_schema;
	char	   *function;		/* qualified */
	char	   *owner;
	char	   *search_path;
} EsUpcaster;

/* The upcasters of one call, and what it needs to call them. */
typedef struct EsUpcasts
{
	int			n;
	const EsUpcaster *list;
	FmgrInfo   *calls;			/* of each, once it is looked up; NULL: of none */
	MemoryContext context;		/* with which the call ends */
	MemoryContext per_event;	/* of what the last event has become; NULL: there
								 * was none */
	TupleTableSlot *slot;		/* the same as a row; NULL: not asked for yet */
} EsUpcasts;

extern EsUpcasts *es_upcasts_begin(const EsCatalog *cat);
extern const EsUpcaster *es_upcaster_find(const EsUpcasts *upcasts, EsName type, int32 schema_version);
extern Oid	es_upcaster_function(const char *name);
extern void es_upcaster_require_execute(Oid function, const char *name);
extern void es_upcaster_before_drop(const EsCatalog *cat, const char *function, bool cascade);
extern void es_upcaster_init(void);

#endif							/* ES_UPCASTER_H */
