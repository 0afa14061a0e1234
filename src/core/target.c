/*
 * target.c
 *		A table as the executor sees it that rows are stored into.
 *
 * Index entries, constraints and triggers go through the executor's functions, so
 * that whatever users have added to a table of the store works as with INSERT and UPDATE.
 * These want an EState with the table in its range table, as
 * replication/logical/worker.c makes one.  Indexes are opened by the caller, each
 * in its own way.
 */
#include "postgres.h"

#include "access/sysattr.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "storage/lockdefs.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "core/target.h"

/* The caller holds RowExclusiveLock on the table. */
EsTarget
es_target_open(Relation rel)
{
	EsTarget	target;
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;

	target.estate = CreateExecutorState();
	es_compat_init_range_table(target.estate, rte);
	target.relinfo = makeNode(ResultRelInfo);
	InitResultRelInfo(target.relinfo, rel, 1, NULL, 0);
	target.estate->es_opened_result_relations = list_make1(target.relinfo);
	return target;
}

/* A column is about to be updated: generated ones may depend on it. */
void
es_target_note_update(EsTarget *target, int column)
{
	Bitmapset **updated = es_compat_updated_columns(target->estate);

	*updated = bms_add_member(*updated, column - FirstLowInvalidHeapAttributeNumber);
}

/* The caller has closed the indexes. */
void
es_target_close(EsTarget *target)
{
	ExecResetTupleTable(target->estate->es_tupleTable, false);
	FreeExecutorState(target->estate);
	target->estate = NULL;
	target->relinfo = NULL;
}
