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

#include "core/catalog.h"
#include "core/settings.h"
#include "eventstore.h"
#include "log/guard.h"
#include "log/registry.h"
#include "projections/code.h"
#include "projections/definition.h"
#include "projections/figures.h"
#include "streams/upcast.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

void		_PG_init(void);

void
_PG_init(void)
{
	es_settings_init(process_shared_preload_libraries_in_progress);
	es_catalog_init();
	es_guard_init();
	es_definition_init();
	es_depend_init();
	es_upcast_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	es_registry_init();
	es_figures_init();
	es_pool_init();
	es_launcher_init();
	es_evict_init();
}
