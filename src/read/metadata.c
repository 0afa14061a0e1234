/*
 * metadata.c
 *		Events by a key of their metadata, correlation_id as a rule.
 *
 * An index of event_log leads to them: on (hash of the value as text, position), of the
 * events that have the key.  The store has one for correlation_id.  For another key, the user
 * makes a similar one, which is found by comparing its expression and its predicate with
 * those of the store's.
 *
 * Invariant: the hash only leads to an event; its metadata decides.
 *
 * Locks: AccessShare on the indexes of event_log, given back; the caller holds event_log.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/table.h"
#include "catalog/pg_am.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_type.h"
#include "nodes/nodeFuncs.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"
#include "utils/rel.h"

#include "log/event.h"
#include "read/metadata.h"

/* The expression for another key: the key is the only text in it. */
static Node *
with_key(Node *node, void *key)
{
	if (node != NULL && IsA(node, Const) && ((Const *) node)->consttype == TEXTOID)
	{
		Const	   *other = copyObject((Const *) node);

		other->constvalue = PointerGetDatum(key);
		return (Node *) other;
	}
	return expression_tree_mutator(node, with_key, key);
}

/*
 * Does the index lead to all events with the key, in the order of positions for each hash
 * of its values?  The model does for correlation_id.
 */
static bool
is_like(Relation index, Relation model, text *key)
{
	List	   *predicate = RelationGetIndexPredicate(index);

	return index->rd_rel->relam == BTREE_AM_OID && index->rd_index->indisvalid &&
		index->rd_index->indnkeyatts == 2 &&
		index->rd_index->indkey.values[0] == 0 &&
		index->rd_index->indkey.values[1] == ES_LOG_COL_POSITION &&
		memcmp(index->rd_opfamily, model->rd_opfamily, sizeof(Oid) * 2) == 0 &&
		memcmp(index->rd_indoption, model->rd_indoption, sizeof(int16) * 2) == 0 &&
		equal(RelationGetIndexExpressions(index),
			  with_key((Node *) RelationGetIndexExpressions(model), key)) &&
		(predicate == NIL || equal(predicate, with_key((Node *) RelationGetIndexPredicate(model), key)));
}

static void
raise_no_index(text *key)
{
	char	   *literal = quote_literal_cstr(text_to_cstring(key));

	ereport(ERROR,
			(errcode(ERRCODE_UNDEFINED_OBJECT),
			 errmsg("eventstore.event_log has no index for the key \"%s\" of metadata", text_to_cstring(key)),
			 errhint("CREATE INDEX ON eventstore.event_log "
					 "(pg_catalog.hashtextextended((metadata OPERATOR(pg_catalog.->>) %s::pg_catalog.text) COLLATE pg_catalog.\"C\", 0::pg_catalog.int8), position) "
					 "WHERE metadata OPERATOR(pg_catalog.?) %s::pg_catalog.text;", literal, literal)));
}

/*
 * The index for a key; an error that says how to make it if there is none.
 */
Oid
es_metadata_index(const EsCatalog *cat, text *key)
{
	Relation	log = table_open(cat->event_log, AccessShareLock);
	Relation	model = index_open(cat->event_log_correlation, AccessShareLock);
	Oid			found = is_like(model, model, key) ? cat->event_log_correlation : InvalidOid;
	ListCell   *lc;

	foreach(lc, OidIsValid(found) ? NIL : RelationGetIndexList(log))
	{
		Relation	index = index_open(lfirst_oid(lc), AccessShareLock);

		if (is_like(index, model, key))
			found = lfirst_oid(lc);
		index_close(index, AccessShareLock);
	}
	index_close(model, AccessShareLock);
	table_close(log, AccessShareLock);
	if (!OidIsValid(found))
		raise_no_index(key);
	return found;
}

/* The hash that the index has for a value. */
int64
es_metadata_hash(text *value)
{
	return DatumGetInt64(DirectFunctionCall2Coll(hashtextextended, C_COLLATION_OID,
												 PointerGetDatum(value), Int64GetDatum(0)));
}

/* Is this the value that the event has under the key? */
bool
es_metadata_has(TupleTableSlot *event, text *key, text *value)
{
	LOCAL_FCINFO(call, 2);
	bool		isnull;
	Datum		metadata;
	Datum		found;
	bool		same;

	InitFunctionCallInfoData(*call, NULL, 2, InvalidOid, NULL, NULL);
	metadata = slot_getattr(event, ES_LOG_COL_METADATA, &isnull);
	if (isnull)
		return false;
	call->args[0].value = JsonbPGetDatum(DatumGetJsonbP(metadata));
	call->args[0].isnull = false;
	call->args[1].value = PointerGetDatum(key);
	call->args[1].isnull = false;
	found = jsonb_object_field_text(call);
	same = !call->isnull && DatumGetBool(DirectFunctionCall2Coll(texteq, C_COLLATION_OID,
																 found, PointerGetDatum(value)));
	if (!call->isnull)
		pfree(DatumGetPointer(found));
	if (call->args[0].value != metadata)
		pfree(DatumGetPointer(call->args[0].value));
	return same;
}
