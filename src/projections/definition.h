/*
 * definition.h
 *		What a projection is.
 */
#ifndef ES_DEFINITION_H
#define ES_DEFINITION_H

#include "core/carrier.h"
#include "core/catalog.h"
#include "datatype/timestamp.h"
#include "read/filter.h"
#include "storage/itemptr.h"

typedef enum EsForm
{
	ES_FORM_HANDLER,			/* f(event es_event), once an event */
	ES_FORM_QUERY,				/* a statement over es_batch, once a batch */
	ES_FORM_REDUCER				/* f(state jsonb, event es_event) → jsonb */
} EsForm;

typedef enum EsOnError
{
	ES_ON_ERROR_STOP,
	ES_ON_ERROR_SKIP,
	ES_ON_ERROR_PARK
} EsOnError;

typedef enum EsState
{
	ES_STATE_RUNNING,
	ES_STATE_PAUSED,
	ES_STATE_STOPPED			/* by an error */
} EsState;

typedef struct EsProjection
{
	int			id;
	ItemPointerData tid;		/* of its row */
	TransactionId version;		/* the transaction that wrote the row: another, another definition */
	char	   *name;
	EsCarrier	carrier;		/* and its owner; InvalidOid: it has none */
	char	   *owner_then;		/* by name, as of its last change here: only a hint */
	char	   *search_path;
	EsForm		form;
	char	   *code;
	bool		is_inline;
	EsFilter	filter;
	char	   *partition_by;
	int64		start_after;
	int			batch_size;
	EsOnError	on_error;
	int			max_retries;
	char	   *reset;			/* NULL: none given */
	char	  **named;
	int			nnamed;
	EsState		state;
	bool		runs;			/* by its state, and it has an owner */
	bool		live;			/* inline, and applied by appends */
	bool		was_live;		/* so until it was dumped and restored: it does not run here */
	int64		rebuild_up_to;	/* 0: is not being rebuilt */
} EsProjection;

/* All of them, in the order of their ids. */
typedef struct EsProjections
{
	int			n;
	EsProjection *list;
	int			nlive;
	EsProjection **live;
	int			nwas_live;
} EsProjections;

extern void es_definition_init(void);
extern const EsProjections *es_definitions(const EsCatalog *cat);
extern const EsProjections *es_definitions_anew(const EsCatalog *cat);
extern void es_definitions_pin(void);
extern const EsProjection *es_definition_by_id(const EsCatalog *cat, int id);
extern const EsProjection *es_definition_under_lock(const EsCatalog *cat, int id);
extern const EsProjection *es_definition_by_name(const EsCatalog *cat, EsName name);
extern const EsProjection *es_definition_require(const EsCatalog *cat, EsName name);

extern void es_definition_require_owner(const EsProjection *projection);

extern const char *es_form_name(EsForm form);
extern const char *es_state_name(EsState state);
extern bool es_on_error_parse(const char *name, EsOnError *on_error);

#endif							/* ES_DEFINITION_H */
