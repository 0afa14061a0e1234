/*
 * settings.h
 *		The settings eventstore.*
 */
#ifndef ES_SETTINGS_H
#define ES_SETTINGS_H

#include "postgres.h"

extern bool es_guc_allow_drop;
extern bool es_guc_enable_scan;
extern int	es_guc_max_databases;
extern int	es_guc_max_event_size;
extern int	es_guc_max_projections;
extern int	es_guc_max_workers;
extern char *es_guc_metadata;
extern int	es_guc_projection_timeout;
extern int	es_guc_remember_ids;
extern bool es_guc_restore;
extern int	es_guc_scavenge_interval;

extern void es_settings_init(bool preloading);

#endif							/* ES_SETTINGS_H */
