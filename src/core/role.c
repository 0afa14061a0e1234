/*
 * role.c
 *		Acting as another role, with a search_path of its own.
 *
 * The store's own tables are worked on as their owner; code that users have named is
 * run as the role that named it, restricted as REFRESH MATERIALIZED VIEW restricts
 * (SECURITY_RESTRICTED_OPERATION: no SET ROLE, no temporary tables, no deferred
 * triggers), unless that role is the caller itself.
 *
 * An error restores role and settings by itself: the (sub)transaction's abort does
 * (access/transam/xact.c).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "postmaster/bgworker.h"
#include "utils/guc.h"

#include "core/role.h"

/*
 * The search_path, for the present level of settings.  Temporary tables are looked for
 * last: the caller could make one with the name of a table that is meant.
 */
void
es_role_set_search_path(const char *search_path)
{
	(void) set_config_option("search_path",
							 search_path[0] == '\0' ? "pg_temp" : psprintf("%s, pg_temp", search_path),
							 PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

/* Act as a role; settings made from here on end with the scope. */
void
es_role_enter(EsRoleScope *scope, Oid role, const char *search_path, int security_flags)
{
	GetUserIdAndSecContext(&scope->user, &scope->security_context);
	SetUserIdAndSecContext(role, scope->security_context | SECURITY_LOCAL_USERID_CHANGE | security_flags);
	scope->settings_level = NewGUCNestLevel();
	es_role_set_search_path(search_path);
}

/* The same, to run users' code. */
void
es_role_enter_for_code(EsRoleScope *scope, Oid role, const char *search_path)
{
	bool		own = role == GetUserId() && MyBgworkerEntry == NULL;

	es_role_enter(scope, role, search_path, own ? 0 : SECURITY_RESTRICTED_OPERATION);
}

void
es_role_leave(const EsRoleScope *scope)
{
	AtEOXact_GUC(false, scope->settings_level);
	SetUserIdAndSecContext(scope->user, scope->security_context);
}
