/*
 * carrier.c
 *		Carriers: functions whose owner is the owner of a projection or an upcaster.
 *
 * A projection is a row of a table, and so is an upcaster; their code runs with the
 * rights of their owner.  A role that stood in such a row would be known to nobody but
 * us.  So each has a function in the schema eventstore, owner_of_projection_7(), whose
 * owner is the owner: the server itself renames, reassigns and dumps that, and protects
 * it from DROP ROLE in every database.  It does nothing, and nobody needs to call it.
 *
 * It is no member of the extension, or a dump would not carry it.  It depends on the
 * extension as ALTER FUNCTION ... DEPENDS ON EXTENSION makes it: DROP EXTENSION takes it
 * along, and a dump carries that too.
 *
 * What a user may do with it, and what follows, is in projections/owner.c.
 *
 * Invariant: a function is a carrier by its schema, its name, and by having no arguments.
 * Whoever may create functions in the schema eventstore could make one, and be the owner
 * of what has none: its code runs with that role's rights then.
 *
 * Locks: none of its own; what changes a carrier is under the lock of what it is for.
 * Crash: functions belong to their transaction.
 */
#include "postgres.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/dependency.h"
#include "catalog/indexing.h"
#include "catalog/namespace.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_proc.h"
#include "commands/comment.h"
#include "commands/extension.h"
#include "common/string.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/rel.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat/compat.h"
#include "core/carrier.h"

static const char *const prefixes[] = {
	[ES_CARRIES_PROJECTION] = "owner_of_projection_",
	[ES_CARRIES_UPCASTER] = "owner_of_upcaster_"
};

/* The carrier that a row of pg_proc is; of nothing if it is none. */
static EsCarrier
carrier_of_row(Form_pg_proc function)
{
	EsCarrier	carrier = {.of = ES_CARRIES_NOTHING};
	const char *name = NameStr(function->proname);

	if (function->pronargs != 0 || function->pronamespace != get_namespace_oid("eventstore", true))
		return carrier;
	for (EsCarries of = ES_CARRIES_PROJECTION; of <= ES_CARRIES_UPCASTER; of++)
	{
		size_t		len = strlen(prefixes[of]);
		int			id;
		char	   *end;

		if (strncmp(name, prefixes[of], len) != 0)
			continue;
		errno = 0;
		id = strtoint(name + len, &end, 10);
		/* spelt as we spell it: no other name is the same */
		if (errno != 0 || id <= 0 || strcmp(name + len, psprintf("%d", id)) != 0)
			continue;
		carrier = (EsCarrier) {of, id, function->oid, function->proowner};
	}
	return carrier;
}

/* Look a function up by an index of pg_proc; a carrier of nothing if it is none. */
static EsCarrier
look_up(Oid index, int nkeys, ScanKey keys, Snapshot snapshot)
{
	EsCarrier	carrier = {.of = ES_CARRIES_NOTHING};
	Relation	rel = table_open(ProcedureRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(rel, index, true, snapshot, nkeys, keys);
	HeapTuple	row = systable_getnext(scan);

	if (HeapTupleIsValid(row))
		carrier = carrier_of_row((Form_pg_proc) GETSTRUCT(row));
	systable_endscan(scan);
	table_close(rel, AccessShareLock);
	return carrier;
}

/*
 * The carrier of a projection or upcaster, as the snapshot sees it.
 */
EsCarrier
es_carrier_find(Oid schema, EsCarries of, int id, Snapshot snapshot)
{
	ScanKeyData keys[3];
	NameData	name;
	EsCarrier	found;

	namestrcpy(&name, psprintf("%s%d", prefixes[of], id));
	ScanKeyInit(&keys[0], Anum_pg_proc_proname, BTEqualStrategyNumber, F_NAMEEQ, NameGetDatum(&name));
	ScanKeyInit(&keys[1], Anum_pg_proc_proargtypes, BTEqualStrategyNumber, F_OIDVECTOREQ,
				PointerGetDatum(buildoidvector(NULL, 0)));
	ScanKeyInit(&keys[2], Anum_pg_proc_pronamespace, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(schema));
	found = look_up(ProcedureNameArgsNspIndexId, 3, keys, snapshot);
	found.of = of;
	found.id = id;
	return found;
}

/*
 * What a function is the carrier of.
 */
EsCarrier
es_carrier_of_function(Oid function, Snapshot snapshot)
{
	ScanKeyData key;

	ScanKeyInit(&key, Anum_pg_proc_oid, BTEqualStrategyNumber, F_OIDEQ, ObjectIdGetDatum(function));
	return look_up(ProcedureOidIndexId, 1, &key, snapshot);
}

/* Store a row of pg_proc with another owner and other rights. */
static void
store_owner(Relation rel, HeapTuple row, Oid owner, Acl *acl)
{
	Datum		values[Natts_pg_proc] = {0};
	bool		isnull[Natts_pg_proc] = {false};
	bool		replace[Natts_pg_proc] = {false};
	HeapTuple	changed;

	replace[Anum_pg_proc_proowner - 1] = true;
	values[Anum_pg_proc_proowner - 1] = ObjectIdGetDatum(owner);
	replace[Anum_pg_proc_proacl - 1] = true;
	isnull[Anum_pg_proc_proacl - 1] = acl == NULL;
	values[Anum_pg_proc_proacl - 1] = PointerGetDatum(acl);
	changed = heap_modify_tuple(row, RelationGetDescr(rel), values, isnull, replace);
	CatalogTupleUpdate(rel, &row->t_self, changed);
	heap_freetuple(changed);
}

/* The rights on a function, NULL: those that it has by default. */
static Acl *
rights_of(HeapTuple row)
{
	bool		isnull;
	Datum		acl = SysCacheGetAttr(PROCOID, row, Anum_pg_proc_proacl, &isnull);

	return isnull ? NULL : DatumGetAclPCopy(acl);
}

static HeapTuple
row_of(Oid function)
{
	HeapTuple	row = SearchSysCacheCopy1(PROCOID, ObjectIdGetDatum(function));

	if (!HeapTupleIsValid(row))
		elog(ERROR, "cache lookup failed for function %u", function);
	return row;
}

/* Nobody but its owner may call it, whatever ALTER DEFAULT PRIVILEGES says. */
static void
take_rights_away(Oid function, Oid owner)
{
	Relation	rel = table_open(ProcedureRelationId, RowExclusiveLock);
	HeapTuple	row = row_of(function);
	AclItem		everybody = {.ai_grantee = ACL_ID_PUBLIC, .ai_grantor = owner};
	Acl		   *former = rights_of(row);
	Acl		   *acl;
	Oid		   *former_members = NULL;
	Oid		   *members;
	int			nformer = former != NULL ? aclmembers(former, &former_members) : 0;
	int			n;

	ACLITEM_SET_RIGHTS(everybody, ACL_EXECUTE);
	acl = aclupdate(acldefault(OBJECT_FUNCTION, owner), &everybody, ACL_MODECHG_DEL, owner, DROP_RESTRICT);
	n = aclmembers(acl, &members);
	store_owner(rel, row, owner, acl);
	updateAclDependencies(ProcedureRelationId, function, 0, owner, nformer, former_members, n, members);
	heap_freetuple(row);
	table_close(rel, RowExclusiveLock);
}

/*
 * Make the carrier of a projection or upcaster that has none.  Needs no right on the schema.
 * Replaces a carrier that is left over from an earlier one of this id, as a dump of the
 * definitions alone leaves them.
 */
void
es_carrier_create(Oid schema, EsCarries of, int id, Oid owner, const char *comment)
{
	EsCarrier	left_over = es_carrier_find(schema, of, id, SnapshotSelf);
	bool		in_extension = creating_extension;
	ObjectAddress function;
	ObjectAddress extension;

	if (OidIsValid(left_over.function))
		es_carrier_drop(left_over.function);
	/* of another extension, whose script makes projections, it is no member either */
	creating_extension = false;
	function = es_compat_create_function(psprintf("%s%d", prefixes[of], id), schema, owner, "");
	creating_extension = in_extension;
	CommandCounterIncrement();
	take_rights_away(function.objectId, owner);
	ObjectAddressSet(extension, ExtensionRelationId, get_extension_oid("eventstore", false));
	recordDependencyOn(&function, &extension, DEPENDENCY_AUTO_EXTENSION);
	CreateComments(function.objectId, ProcedureRelationId, 0, comment);
	CommandCounterIncrement();
}

/*
 * Give a carrier to another role.  Whether that is allowed is the caller's business.
 */
void
es_carrier_set_owner(Oid function, Oid owner)
{
	Relation	rel = table_open(ProcedureRelationId, RowExclusiveLock);
	HeapTuple	row = row_of(function);
	Oid			former = ((Form_pg_proc) GETSTRUCT(row))->proowner;
	Acl		   *acl = rights_of(row);

	if (former != owner)
	{
		store_owner(rel, row, owner, acl != NULL ? aclnewowner(acl, former, owner) : NULL);
		changeDependencyOnOwner(ProcedureRelationId, function, owner);
		InvokeObjectPostAlterHook(ProcedureRelationId, function, 0);
	}
	heap_freetuple(row);
	table_close(rel, RowExclusiveLock);
	CommandCounterIncrement();
}

/* May the current user do what only the owner may?  Where there is no owner, a superuser may. */
bool
es_carrier_is_own(const EsCarrier *carrier)
{
	return superuser() || (OidIsValid(carrier->owner) && has_privs_of_role(GetUserId(), carrier->owner));
}

void
es_carrier_drop(Oid function)
{
	ObjectAddress address;

	ObjectAddressSet(address, ProcedureRelationId, function);
	performDeletion(&address, DROP_CASCADE, PERFORM_DELETION_INTERNAL);
	CommandCounterIncrement();
}

/*
 * For a trigger on INSERT: the row, with the name of the carrier's owner if the carrier is
 * there already, as in a restore, and is not foreign.  "then" is the name that the row
 * brought.
 */
HeapTuple
es_carrier_restore_row(const TriggerData *trigger, EsCarries of, const char *id_column,
					   EsCarrier *carrier, const char **then)
{
	TupleDesc	desc = RelationGetDescr(trigger->tg_relation);
	HeapTuple	row = trigger->tg_trigtuple;
	int			column = SPI_fnumber(desc, "owner");
	bool		isnull;
	Datum		id = SPI_getbinval(row, desc, SPI_fnumber(desc, id_column), &isnull);
	Datum		name;

	*then = SPI_getvalue(row, desc, column);
	*carrier = (EsCarrier) {.of = of};
	if (isnull || *then == NULL)
		return row;
	*carrier = es_carrier_find(RelationGetNamespace(trigger->tg_relation), of, DatumGetInt32(id), SnapshotSelf);
	if (!OidIsValid(carrier->owner) || es_carrier_is_foreign(carrier, *then))
		return row;
	isnull = false;
	name = CStringGetTextDatum(GetUserNameFromId(carrier->owner, false));
	return heap_modify_tuple_by_cols(row, desc, 1, &column, &name, &isnull);
}

/*
 * Does a superuser own it now, but did another role when it was last changed?  So it is after
 * a restore that could not, or should not, give it to its owner.
 */
bool
es_carrier_is_foreign(const EsCarrier *carrier, const char *former_owner)
{
	return OidIsValid(carrier->owner) && superuser_arg(carrier->owner) &&
		strcmp(GetUserNameFromId(carrier->owner, false), former_owner) != 0;
}
