/*
 * durable.c
 *		A number that survives a crash and does not wait for commit.
 *
 * Some facts must be on disk before the transaction that needs them commits, and
 * must stay when it rolls back: up to where positions have been handed out, that
 * the log is sealed, on which timeline it goes on.  PostgreSQL has one kind of
 * object outside of transactions, the sequence.  The store keeps each such fact
 * in a sequence of its own ("register"), which gives it WAL, replication, dump
 * (setval) and a name that a DBA can look at, for nothing.
 *
 * nextval() and setval() themselves do not fit: they check the caller's rights,
 * change what lastval() answers in the caller's session, and return before their
 * WAL record is on disk.  Writing here is the same exchange of page and WAL
 * record that they make (commands/sequence.c, do_setval): the whole tuple under
 * the exclusive buffer lock, XLOG_SEQ_LOG with REGBUF_WILL_INIT.
 *
 * Invariant: es_durable_write returns when the number is on disk.  A crash
 * before leaves the old number or the new one.
 *
 * Locks: the caller opens the relation (a heavyweight lock, which may wait)
 * before it takes any LWLock; here only the buffer's content lock is taken.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "commands/sequence.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/rel.h"

#include "compat/compat.h"
#include "core/durable.h"

/* Close it with relation_close(rel, NoLock): the lock is held to the end. */
Relation
es_durable_open(Oid relid, bool write)
{
	Relation	rel = relation_open(relid, write ? RowExclusiveLock : AccessShareLock);

	if (rel->rd_rel->relkind != RELKIND_SEQUENCE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("\"%s\" is not a sequence", RelationGetRelationName(rel))));
	return rel;
}

static HeapTupleHeader
lock_tuple(Relation rel, int mode, Buffer *buffer, Size *len)
{
	ItemId		item;

	*buffer = ReadBuffer(rel, 0);
	LockBuffer(*buffer, mode);
	item = PageGetItemId(BufferGetPage(*buffer), FirstOffsetNumber);
	*len = ItemIdGetLength(item);
	return (HeapTupleHeader) PageGetItem(BufferGetPage(*buffer), item);
}

static Form_pg_sequence_data
tuple_data(HeapTupleHeader tuple)
{
	return (Form_pg_sequence_data) ((char *) tuple + tuple->t_hoff);
}

/*
 * Read the number; false if it has never been written.
 */
bool
es_durable_read(Relation rel, int64 *value)
{
	Buffer		buffer;
	Size		len;
	Form_pg_sequence_data data;
	bool		written;

	data = tuple_data(lock_tuple(rel, BUFFER_LOCK_SHARE, &buffer, &len));
	*value = data->last_value;
	written = data->is_called;
	UnlockReleaseBuffer(buffer);
	return written;
}

/*
 * Write the number and wait until it is on disk.
 */
void
es_durable_write(Relation rel, int64 value)
{
	Buffer		buffer;
	Size		len;
	HeapTupleHeader tuple = lock_tuple(rel, BUFFER_LOCK_EXCLUSIVE, &buffer, &len);
	Form_pg_sequence_data data = tuple_data(tuple);
	XLogRecPtr	lsn = InvalidXLogRecPtr;

	START_CRIT_SECTION();
	data->last_value = value;
	data->is_called = true;
	data->log_cnt = 0;
	MarkBufferDirty(buffer);
	if (RelationNeedsWAL(rel))
	{
		xl_seq_rec	record;

		es_compat_set_locator(&record, rel);
		XLogBeginInsert();
		XLogRegisterBuffer(0, buffer, REGBUF_WILL_INIT);
		XLogRegisterData((char *) &record, sizeof(record));
		XLogRegisterData((char *) tuple, len);
		lsn = XLogInsert(RM_SEQ_ID, XLOG_SEQ_LOG);
		PageSetLSN(BufferGetPage(buffer), lsn);
	}
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);

	if (!XLogRecPtrIsInvalid(lsn))
		XLogFlush(lsn);
}
