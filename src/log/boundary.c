/*
 * boundary.c
 *		Slots: which streams belong together when there is more than one store.
 *
 * A stream is of one of 1,024 slots, which anybody can compute from its name alone: a hash of
 * its boundary (format.h).  The boundary is the name up to the first separator, or the
 * whole name where there is no separator in it, or none was set.  Streams of one boundary are
 * always of one slot.  A name that begins with the separator has the boundary ''.  A bare
 * UUID is cut as any name, also by '-'.
 *
 * All of this happens in UTF-8, in which a character is found by its bytes, so the slot does
 * not depend on the encoding of the database.
 *
 * The separator is a register (core/durable.c), its code point: dumped as a setval, the same
 * to every snapshot, and on standbys.  It is read each time, which costs less than a
 * microsecond.  As a setval it counts at once, and a rollback does not take it back.
 *
 * Invariants
 * 1. The separator is set only while nothing is stored and nobody is storing: the lock that
 *    the first append takes to seal the log (seal.c) is held while it is written.  So all
 *    events of a log have been appended, or restored, under one boundary.
 * 2. A separator is a character that the name of a stream may have.
 *
 * Lock order: event_log, registers.
 * Crash: the register holds the separator from before or the new one.
 */
#include "postgres.h"

#include "access/relation.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "storage/lmgr.h"

#include "compat/compat.h"
#include "core/args.h"
#include "core/durable.h"
#include "core/hash.h"
#include "log/change.h"
#include "log/format.h"
#include "log/seal.h"

PG_FUNCTION_INFO_V1(es_slot);
PG_FUNCTION_INFO_V1(es_set_boundary);

/* What the register says where no separator is set; it may also not be written. */
#define NO_SEPARATOR	0

#define UTF8_MAX_BYTES	4

/* The separator in UTF-8, of no length if none is set. */
static EsName
read_separator(const EsCatalog *cat, unsigned char *bytes)
{
	Relation	rel = es_durable_open(cat->boundary_register, false);
	int64		code_point;
	bool		written = es_durable_read(rel, &code_point);

	relation_close(rel, NoLock);
	if (!written || code_point == NO_SEPARATOR)
		return ES_NAME_NONE;
	(void) unicode_to_utf8((pg_wchar) code_point, bytes);
	return (EsName) {(char *) bytes, pg_utf_mblen(bytes)};
}

/* A name up to the first separator, both in UTF-8. */
static EsName
cut_name(EsName name, EsName separator)
{
	for (int i = 0; separator.len > 0 && i + separator.len <= name.len; i++)
	{
		if (memcmp(name.bytes + i, separator.bytes, separator.len) == 0)
			return (EsName) {name.bytes, i};
	}
	return name;
}

/*
 * The slot of a stream.  A name that has no form in UTF-8 is an error (22P05).
 */
static int32
slot_of_stream(const EsCatalog *cat, EsName stream)
{
	unsigned char bytes[UTF8_MAX_BYTES];
	EsName		name = es_name_in_utf8(stream);
	EsName		boundary = cut_name(name, read_separator(cat, bytes));
	int32		slot = (int32) (es_hash_bytes(boundary.bytes, boundary.len, 0) % ES_SLOTS);

	if (name.bytes != stream.bytes)
		pfree((void *) name.bytes);
	return slot;
}

/*
 * es_slot(stream text) → int
 */
Datum
es_slot(PG_FUNCTION_ARGS)
{
	EsName		stream = es_arg_name(fcinfo, 0, "stream");

	PG_RETURN_INT32(slot_of_stream(es_catalog_lock(AccessShareLock), stream));
}

/* The code point of an argument that must be one character (2). */
static int64
separator_argument(FunctionCallInfo fcinfo)
{
	EsName		separator;
	EsName		utf8;

	if (PG_ARGISNULL(0))
		return NO_SEPARATOR;
	separator = es_name_from_text(PG_GETARG_DATUM(0));
	utf8 = es_name_in_utf8(separator);
	if (utf8.len == 0 || utf8.len != pg_utf_mblen((const unsigned char *) utf8.bytes) ||
		!pg_utf8_islegal((const unsigned char *) utf8.bytes, utf8.len))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("separator must be a single character")));
	/* a name may have it, but not in front */
	if (utf8.bytes[0] != '-')
		es_name_check(separator, "separator");
	return utf8_to_unicode((const unsigned char *) utf8.bytes);
}

/*
 * es_set_boundary(separator text) → void
 */
Datum
es_set_boundary(PG_FUNCTION_ARGS)
{
	int64		code_point = separator_argument(fcinfo);
	const EsCatalog *cat = es_control_begin("es_set_boundary()");
	Relation	rel;

	if (!es_compat_owns_relation(cat->event_log))
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be owner of the event store to set its boundary")));
	if (!es_seal_lock_unwritten(cat))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("the boundary can only be set before the first append"),
				 errdetail("The slots of the streams that there are would become others.")));
	rel = es_durable_open(cat->boundary_register, true);	/* (1) */
	es_durable_write(rel, code_point);
	relation_close(rel, NoLock);
	UnlockRelationOid(cat->event_log, ShareRowExclusiveLock);
	PG_RETURN_VOID();
}
