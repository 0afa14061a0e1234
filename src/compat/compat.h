/*
 * compat.h
 *		The differences between the server versions that the store supports.
 *		The only file that mentions PG_VERSION_NUM.
 *
 * Each name stands for what the newest server offers under a similar one; what the
 * older ones lack is made up for here.  Nothing in it decides anything.
 */
#ifndef ES_COMPAT_H
#define ES_COMPAT_H

#include "postgres.h"

#include "access/genam.h"
#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/pg_class.h"
#include "catalog/pg_database.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/explain.h"
#include "common/jsonapi.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "optimizer/paths.h"
#include "parser/parse_relation.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "storage/procarray.h"
#include "storage/sinvaladt.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/regproc.h"
#include "utils/wait_event.h"
#if PG_VERSION_NUM >= 160000
#include "varatt.h"				/* was part of postgres.h */
#endif

#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"	/* was part of commands/explain.h */
#include "commands/explain_state.h"
#endif

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 190000
#error "eventstore supports PostgreSQL 15, 16, 17 and 18"
#endif

/* ---- processes and their transactions ---- */

#if PG_VERSION_NUM >= 170000

/*
 * A number below MaxBackends that this process alone has: the index of its
 * slot in the registry.
 */
#define es_compat_my_slot()			MyProcNumber

#define es_compat_proc_number(proc)	GetNumberFromPGProc(proc)
#define es_compat_my_lxid()			(MyProc->vxid.lxid)
#define es_compat_lock_holder(vxid)	ProcNumberGetProc((vxid).procNumber)

#else

#define es_compat_my_slot()			(MyBackendId - 1)
#define es_compat_proc_number(proc)	((proc)->pgprocno)
#define es_compat_my_lxid()			(MyProc->lxid)
#define es_compat_lock_holder(vxid)	BackendIdGetProc((vxid).backendId)

#endif

/* Does this transaction hold the lock, in this mode exactly? */
static inline bool
es_compat_holds_lock(const LOCKTAG *tag, LOCKMODE mode)
{
#if PG_VERSION_NUM >= 170000
	return LockHeldByMe(tag, mode, false);
#else
	return LockHeldByMe(tag, mode);
#endif
}

/* A wait event of that name; before 17 all extensions share one. */
static inline uint32
es_compat_wait_event(const char *name)
{
#if PG_VERSION_NUM >= 170000
	return WaitEventExtensionNew(name);
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* ---- rights and names ---- */

#if PG_VERSION_NUM >= 160000

#define es_compat_function_acl(function, mode) \
	object_aclcheck(ProcedureRelationId, (function), GetUserId(), (mode))
/* Does the current user own it, or may act as its owner? */
#define es_compat_schema_acl(schema, mode) \
	object_aclcheck(NamespaceRelationId, (schema), GetUserId(), (mode))
#define es_compat_owns_relation(relid) \
	object_ownercheck(RelationRelationId, (relid), GetUserId())
#define es_compat_owns_database(dboid) \
	object_ownercheck(DatabaseRelationId, (dboid), GetUserId())
#define es_compat_name_list(name)	stringToQualifiedNameList((name), NULL)
/* An error unless that role may be made the owner of something, as ALTER ... OWNER TO says. */
#define es_compat_require_new_owner(role)	check_can_set_role(GetUserId(), (role))

#else

#define es_compat_function_acl(function, mode) \
	pg_proc_aclcheck((function), GetUserId(), (mode))
#define es_compat_schema_acl(schema, mode) \
	pg_namespace_aclcheck((schema), GetUserId(), (mode))
#define es_compat_owns_relation(relid) \
	pg_class_ownercheck((relid), GetUserId())
#define es_compat_owns_database(dboid) \
	pg_database_ownercheck((dboid), GetUserId())
#define es_compat_name_list(name)	stringToQualifiedNameList(name)
#define es_compat_require_new_owner(role)	check_is_member_of_role(GetUserId(), (role))

#endif

/* A function in SQL without arguments that returns nothing. */
static inline ObjectAddress
es_compat_create_function(const char *name, Oid schema, Oid owner, const char *body)
{
	Datum		none = PointerGetDatum(NULL);

	return ProcedureCreate(name, schema, false, false, VOIDOID, owner, SQLlanguageId, InvalidOid,
						   body, NULL, NULL, PROKIND_FUNCTION, false, false, false,
						   PROVOLATILE_VOLATILE, PROPARALLEL_UNSAFE, buildoidvector(NULL, 0),
						   none, none, none, NIL, none,
#if PG_VERSION_NUM >= 180000
						   NIL,
#endif
						   none, InvalidOid, 100, 0);
}

/* ---- JSON ---- */

static inline JsonLexContext *
es_compat_json_lexer(char *json, int encoding)
{
#if PG_VERSION_NUM >= 170000
	return makeJsonLexContextCstringLen(NULL, json, strlen(json), encoding, false);
#else
	return makeJsonLexContextCstringLen(json, strlen(json), encoding, false);
#endif
}

/* ---- tables and indexes ---- */

/* Which file a relation is, in a record of the write-ahead log. */
#if PG_VERSION_NUM >= 160000
#define es_compat_set_locator(record, rel)	((record)->locator = (rel)->rd_locator)
#else
#define es_compat_set_locator(record, rel)	((record)->node = (rel)->rd_node)
#endif

static inline void
es_compat_heap_update(Relation rel, ItemPointer tid, HeapTuple row)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;

	simple_heap_update(rel, tid, row, &indexes);
#else
	simple_heap_update(rel, tid, row);
#endif
}

static inline IndexScanDesc
es_compat_index_beginscan(Relation rel, Relation index, Snapshot snapshot, int nkeys)
{
#if PG_VERSION_NUM >= 180000
	return index_beginscan(rel, index, snapshot, NULL, nkeys, 0);
#else
	return index_beginscan(rel, index, snapshot, nkeys, 0);
#endif
}

/*
 * Index entries of a row that was inserted.  With arbiters, a violation of theirs is told
 * in "conflict" and is no error.
 */
static inline List *
es_compat_index_inserted(ResultRelInfo *relinfo, TupleTableSlot *slot, EState *estate,
						 bool *conflict, List *arbiters)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(relinfo, slot, estate, false, arbiters != NIL, conflict, arbiters, false);
#else
	return ExecInsertIndexTuples(relinfo, slot, estate, false, arbiters != NIL, conflict, arbiters);
#endif
}

/* No more entries will be inserted: an index may have kept pages for the next one. */
#if PG_VERSION_NUM >= 170000
#define es_compat_index_inserts_end(index, info)	index_insert_cleanup((index), (info))
#else
#define es_compat_index_inserts_end(index, info)	((void) 0)
#endif

/* Is there no row yet that an arbiter would mind?  If there is, where. */
static inline bool
es_compat_check_arbiters(ResultRelInfo *relinfo, TupleTableSlot *slot, EState *estate,
						 ItemPointer found, List *arbiters)
{
#if PG_VERSION_NUM >= 180000
	ItemPointerData none;

	ItemPointerSetInvalid(&none);
	return ExecCheckIndexConstraints(relinfo, slot, estate, found, &none, arbiters);
#else
	return ExecCheckIndexConstraints(relinfo, slot, estate, found, arbiters);
#endif
}

/* Update a row of a table without triggers, and its index entries. */
static inline void
es_compat_update_row(ResultRelInfo *relinfo, ItemPointer tid, TupleTableSlot *row, EState *estate,
					 Snapshot snapshot)
{
#if PG_VERSION_NUM >= 160000
	TU_UpdateIndexes indexes;

	simple_table_tuple_update(relinfo->ri_RelationDesc, tid, row, snapshot, &indexes);
	if (indexes != TU_None)
		list_free(ExecInsertIndexTuples(relinfo, row, estate, true, false, NULL, NIL,
										indexes == TU_Summarizing));
#else
	bool		indexes;

	simple_table_tuple_update(relinfo->ri_RelationDesc, tid, row, snapshot, &indexes);
	if (indexes)
		list_free(ExecInsertIndexTuples(relinfo, row, estate, true, false, NULL, NIL));
#endif
}

/* ---- the planner ---- */

/* The order that an expression has by an operator, if the query has a use for it. */
static inline List *
es_compat_expression_pathkey(PlannerInfo *root, Expr *expr, Oid operator, Relids rel)
{
#if PG_VERSION_NUM >= 160000
	return build_expression_pathkey(root, expr, operator, rel, false);
#else
	return build_expression_pathkey(root, expr, NULL, operator, rel, false);
#endif
}

/* ---- the executor ---- */

static inline void
es_compat_init_eval_plan_qual(EPQState *epq, EState *estate)
{
#if PG_VERSION_NUM >= 160000
	EvalPlanQualInit(epq, estate, NULL, NIL, -1, NIL);
#else
	EvalPlanQualInit(epq, estate, NULL, NIL, -1);
#endif
}

/* The estate's range table is this one relation, to be inserted into. */
static inline void
es_compat_init_range_table(EState *estate, RangeTblEntry *rte)
{
#if PG_VERSION_NUM >= 160000
	List	   *permissions = NIL;

	addRTEPermissionInfo(&permissions, rte)->requiredPerms = ACL_INSERT;
#if PG_VERSION_NUM >= 180000
	ExecInitRangeTable(estate, list_make1(rte), permissions, bms_make_singleton(1));
#else
	ExecInitRangeTable(estate, list_make1(rte), permissions);
#endif
#else
	rte->requiredPerms = ACL_INSERT;
	ExecInitRangeTable(estate, list_make1(rte));
#endif
}

/* The columns that are updated, of the only relation of the range table. */
static inline Bitmapset **
es_compat_updated_columns(EState *estate)
{
	RangeTblEntry *rte = exec_rt_fetch(1, estate);

#if PG_VERSION_NUM >= 160000
	return &getRTEPermissionInfo(estate->es_rteperminfos, rte)->updatedCols;
#else
	return &rte->updatedCols;
#endif
}

#endif							/* ES_COMPAT_H */
