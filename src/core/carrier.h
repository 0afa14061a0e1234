/*
 * carrier.h
 *		Carriers: functions whose owner is the owner of a projection or an upcaster.
 */
#ifndef ES_CARRIER_H
#define ES_CARRIER_H

#include "postgres.h"

#include "access/htup.h"
#include "commands/trigger.h"
#include "utils/snapshot.h"

/* What a function is the carrier of. */
typedef enum EsCarries
{
	ES_CARRIES_NOTHING,
	ES_CARRIES_PROJECTION,
	ES_CARRIES_UPCASTER
} EsCarries;

typedef struct EsCarrier
{
	EsCarries	of;
	int			id;				/* of the projection or upcaster */
	Oid			function;		/* InvalidOid: there is none */
	Oid			owner;
} EsCarrier;

extern EsCarrier es_carrier_find(Oid schema, EsCarries of, int id, Snapshot snapshot);
extern EsCarrier es_carrier_of_function(Oid function, Snapshot snapshot);
extern void es_carrier_create(Oid schema, EsCarries of, int id, Oid owner, const char *comment);
extern void es_carrier_set_owner(Oid function, Oid owner);
extern void es_carrier_drop(Oid function);
extern bool es_carrier_is_own(const EsCarrier *carrier);
extern HeapTuple es_carrier_restore_row(const TriggerData *trigger, EsCarries of,
										const char *id_column, EsCarrier *carrier,
										const char **then);
extern bool es_carrier_is_foreign(const EsCarrier *carrier, const char *former_owner);

#endif							/* ES_CARRIER_H */
