/*
 * reader.h
 *		Carrying out a read: one event after the other, in either direction.
 */
#ifndef ES_READER_H
#define ES_READER_H

#include "read/request.h"
#include "read/rows.h"

/*
 * What the caller will leave out by himself, so that it need not be found.  A reader counts, for
 * max_count, and waits for, what the conditions leave; so the caller sees to it that the answer is
 * the same (event_scan.c).
 */
typedef struct EsConditions
{
	EsName	   *types;			/* all that is not shown with one of them; NULL: nothing */
	int			ntypes;
	EsName		stream;			/* all other streams; .bytes NULL: nothing */
	int64		after;			/* positions, or for es_read_stream versions, up to here */
	int64		upto;			/* and beyond here */
} EsConditions;

#define ES_NO_CONDITIONS	((EsConditions) {.upto = PG_INT64_MAX})

/* What a reader has done. */
typedef struct EsReaderFigures
{
	int64		head;			/* that it took; -1: it needed none */
	List	   *indexes;		/* OIDs */
	int64		looked_at;		/* events */
	int64		hidden;			/* of those: were not shown */
	bool		by_entries;		/* of the indexes alone */
} EsReaderFigures;

typedef struct EsReader EsReader;

extern EsReader *es_reader_begin(const EsRequest *request, Snapshot snapshot,
								 const EsConditions *conditions, bool places_only);
extern bool es_reader_next(EsReader *reader, bool ahead);
extern int64 es_reader_place(const EsReader *reader);
extern TupleTableSlot *es_reader_event(const EsReader *reader);
extern EsRows *es_reader_rows(const EsReader *reader);
extern void es_reader_restart(EsReader *reader, const EsConditions *conditions);
extern EsReaderFigures es_reader_figures(const EsReader *reader);
extern void es_reader_end(EsReader *reader);

#endif							/* ES_READER_H */
