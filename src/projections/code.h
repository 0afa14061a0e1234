/*
 * code.h
 *		The code that users name: functions and statements.
 */
#ifndef ES_CODE_H
#define ES_CODE_H

#include "access/tupdesc.h"
#include "nodes/pg_list.h"
#include "projections/definition.h"

extern char *es_code_qualify(const char *given, EsForm form, Oid event_type);
extern bool es_code_is_function(const char *given, const char *qualified, EsForm form, Oid event_type);
extern Oid	es_code_function(const char *name, EsForm form, Oid event_type, bool missing_ok);
extern void es_code_analyze_query(const char *query, Oid event_type, List **named);
extern void es_code_analyze_reset(const char *reset, List **named);
extern void es_code_add_function(Oid function, List **named);
extern char *es_code_identity(Oid class_id, Oid object_id);

#endif							/* ES_CODE_H */
