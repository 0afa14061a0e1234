/*
 * role.h
 *		Acting as another role.
 */
#ifndef ES_ROLE_H
#define ES_ROLE_H

#include "postgres.h"

typedef struct EsRoleScope
{
	Oid			user;
	int			security_context;
	int			settings_level;
} EsRoleScope;

extern void es_role_enter(EsRoleScope *scope, Oid role, const char *search_path, int security_flags);
extern void es_role_enter_for_code(EsRoleScope *scope, Oid role, const char *search_path);
extern void es_role_leave(const EsRoleScope *scope);
extern void es_role_set_search_path(const char *search_path);

#endif							/* ES_ROLE_H */
