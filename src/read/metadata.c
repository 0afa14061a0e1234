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
#include "utils/numeric.h"
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

static bool
is_text(const char *bytes, int len, text *value)
{
	return len == VARSIZE_ANY_EXHDR(value) && memcmp(bytes, VARDATA_ANY(value), len) == 0;
}

/* Is this the value as text, as the operator ->> gives it?  Leaves no memory behind. */
static bool
is_value_as_text(const JsonbValue *found, text *value)
{
	StringInfoData buffer;
	bool		same;

	if (found->type == jbvString)
		return is_text(found->val.string.val, found->val.string.len, value);
	if (found->type == jbvBool)
		return found->val.boolean ? is_text("true", 4, value) : is_text("false", 5, value);
	if (found->type == jbvNull)
		return false;
	initStringInfo(&buffer);
	if (found->type == jbvNumeric)
	{
		char	   *number = DatumGetCString(DirectFunctionCall1(numeric_out, NumericGetDatum(found->val.numeric)));

		appendStringInfoString(&buffer, number);
		pfree(number);
	}
	else
		(void) JsonbToCString(&buffer, found->val.binary.data, found->val.binary.len);
	same = is_text(buffer.data, buffer.len, value);
	pfree(buffer.data);
	return same;
}

/* Is this the value that the event has under the key? */
bool
es_metadata_has(TupleTableSlot *event, text *key, text *value)
{
	bool		isnull;
	Datum		metadata = slot_getattr(event, ES_LOG_COL_METADATA, &isnull);
	Jsonb	   *json;
	JsonbValue	buffer;
	JsonbValue *found = NULL;
	bool		same;

	if (isnull)
		return false;
	json = DatumGetJsonbP(metadata);
	if (JB_ROOT_IS_OBJECT(json))
		found = getKeyJsonValueFromContainer(&json->root, VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key), &buffer);
	same = found != NULL && is_value_as_text(found, value);
	if (JsonbPGetDatum(json) != metadata)
		pfree(json);
	return same;
}
