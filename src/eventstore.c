/*
 * eventstore.c
 *		Loading the library.
 *
 * In shared_preload_libraries the rooms get their shared memory, hooks and
 * workers.  Loaded later (CREATE EXTENSION on a server that does not preload it),
 * only settings are defined, quietly; functions that need shared memory say what
 * to do (log/registry.c).
 */
#include "postgres.h"

#include "miscadmin.h"

#include "append/call.h"
#include "core/call_scan.h"
#include "core/from.h"
#include "core/settings.h"
#include "log/guard.h"
#include "log/place.h"
#include "projections/changed.h"
#include "projections/dead_letters.h"
#include "projections/depend.h"
#include "projections/figures.h"
#include "read/event_scan.h"
#include "subscriptions/fetch.h"
#include "subscriptions/held.h"
#include "worker/evict.h"
#include "worker/launcher.h"
#include "worker/pool.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	es_settings_init(process_shared_preload_libraries_in_progress);
	es_catalog_init();
	es_guard_init();
	es_definition_init();
	es_changed_init();
	es_depend_init();
	es_dead_letters_init();
	es_held_init();
	es_upcaster_init();
	es_from_init();
	es_call_scan_init();
	es_event_scan_init();
	es_fetch_init();
	es_append_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	es_databases_init();
	es_registry_init();
	es_place_init();
	es_figures_init();
	es_pool_init();
	es_launcher_init();
	es_evict_init();
}
