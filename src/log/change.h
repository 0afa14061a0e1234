/*
 * change.h
 *		What begins every change of the store.
 */
#ifndef ES_CHANGE_H
#define ES_CHANGE_H

#include "core/catalog.h"

/* What a backend may be in the midst of while it runs users' code. */
typedef enum EsActivity
{
	ES_STORING,					/* an append stores events: triggers run */
	ES_UPCASTING,				/* an upcaster runs */
	ES_PROJECTING				/* the code of a projection runs */
} EsActivity;

#define ES_ACTIVITIES	3

extern void es_activity_begin(EsActivity activity);
extern void es_activity_end(EsActivity activity);

extern void es_write_begin(const char *function);
extern void es_change_begin(const char *function);
extern void es_change_check_drop(void);
extern void es_control_check(const char *function);
extern const EsCatalog *es_control_begin(const char *function);
extern void es_control_require_read_committed(const char *function);

#endif							/* ES_CHANGE_H */
