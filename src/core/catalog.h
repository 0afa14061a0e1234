/*
 * catalog.h
 *		Where the store's relations are.
 */
#ifndef ES_CATALOG_H
#define ES_CATALOG_H

#include "postgres.h"

#include "core/role.h"
#include "storage/lockdefs.h"

typedef struct EsCatalog
{
	Oid			schema;
	Oid			event_log;
	Oid			event_log_position;		/* unique (position) */
	Oid			event_log_stream;		/* unique (stream_key, version) */
	Oid			event_log_id;			/* unique (event_id), of stored ids */
	Oid			event_log_type;			/* (type_key, position) */
	Oid			event_log_correlation;	/* (hash of correlation id, position) */
	Oid			event_tag;
	Oid			event_tag_tag;			/* (tag, position) */
	Oid			append_lock;
	Oid			stream;
	Oid			stream_name;			/* unique (name) */
	Oid			stream_key;				/* unique (stream_key) */
	Oid			event_type;
	Oid			event_type_key;			/* (type_key) */
	Oid			event_type_category;	/* (category) */
	Oid			event_type_bucket;		/* (bucket) */
	Oid			event_type_type;		/* (type) */
	Oid			mark;
	Oid			position_register;
	Oid			stream_key_register;
	Oid			seal_register;
	Oid			timeline_register;
	Oid			format_register;
	Oid			id_secret_1;
	Oid			id_secret_2;
	Oid			id_check;
	Oid			boundary_register;
	Oid			projection;
	Oid			hidden;
	Oid			hidden_pkey;			/* unique (stream_key) */
	Oid			removed_id;
	Oid			removed_id_event;		/* (event_id) */
	Oid			retention;
	Oid			retention_pkey;			/* unique (name) */
	Oid			upcaster;
	Oid			subscription;
	Oid			subscription_name;		/* unique (name) */
	Oid			subscription_partition;
	Oid			subscription_partition_pkey;	/* unique (subscription_id, partition) */
	Oid			event;					/* the type es_event */
	Oid			owner;					/* of event_log */
	Oid			types_storage;			/* of event_type: its relfilenode */
} EsCatalog;

/*
 * What these return points to the backend's one copy, which is rewritten in place when
 * relations have changed: es_catalog_refresh().
 */
extern const EsCatalog *es_catalog_lock(LOCKMODE mode);
extern const EsCatalog *es_catalog_lock_if_there(LOCKMODE mode);
extern void es_catalog_refresh(void);
extern uint64 es_catalog_generation(void);
extern int64 es_catalog_format(const EsCatalog *cat);
extern void es_catalog_announce(void);
extern bool es_catalog_is_of_log(const char *name);
extern void es_catalog_init(void);

extern void es_owner_enter(EsRoleScope *scope);

#endif							/* ES_CATALOG_H */
