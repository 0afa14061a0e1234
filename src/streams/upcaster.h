/*
 * upcaster.h
 *		Which upcasters there are, for those who register and apply them.
 */
#ifndef ES_UPCASTER_H
#define ES_UPCASTER_H

#include "core/carrier.h"
#include "core/catalog.h"
#include "core/name.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "nodes/pg_list.h"

typedef struct EsUpcaster
{
	EsName		type;
	int32		from_schema;
	EsName		to_type;
	int32		to_schema;
	char	   *function;		/* qualified */
	EsCarrier	carrier;		/* and its owner; InvalidOid: it has none */
	char	   *owner_then;		/* by name, as of its last change here: only a hint */
	char	   *search_path;
	bool		active;			/* and it has an owner: events are shown in its shape */
} EsUpcaster;

/* The upcasters of one call, and what it needs to call them. */
typedef struct EsUpcasts
{
	int			n;
	const EsUpcaster *list;
	FmgrInfo  **calls;			/* of each, its function; NULL: not looked up yet */
	MemoryContext context;		/* of the call */
	MemoryContext per_event;	/* of what the last event has become */
	TupleTableSlot *slot;		/* the same as a row; NULL: not asked for yet */
} EsUpcasts;

extern EsUpcasts *es_upcasts_begin(const EsCatalog *cat);
extern EsUpcasts *es_upcasts_all(const EsCatalog *cat);
extern const EsUpcaster *es_upcaster_by_id(const EsCatalog *cat, int id);
extern const EsUpcaster *es_upcaster_find(const EsUpcasts *upcasts, EsName type, int32 schema_version);
extern Oid	es_upcaster_function(const char *name);
extern void es_upcaster_require_execute(Oid function, const char *name);
extern List *es_upcaster_before_drop(const EsCatalog *cat, const char *function, bool cascade);
extern void es_upcaster_remove(const EsCatalog *cat, int id);
extern char *es_upcaster_describe(const EsCatalog *cat, int id);
extern void es_upcaster_init(void);

#endif							/* ES_UPCASTER_H */
