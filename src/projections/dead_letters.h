/*
 * dead_letters.h
 *		Dead letters: events that a projection was let pass without applying them.
 */
#ifndef ES_DEAD_LETTERS_H
#define ES_DEAD_LETTERS_H

#include "core/error.h"
#include "core/name_set.h"
#include "nodes/pg_list.h"
#include "projections/definition.h"

/* A letter; its other columns follow from these. */
typedef struct EsDeadLetter
{
	int64		position;
	const char *stream;
	bool		parks;			/* later events of the stream wait behind it */
	int			attempts;
	const EsError *error;		/* NULL: it only waits */
} EsDeadLetter;

extern EsDeadLetter *es_dead_letters_read(const EsCatalog *cat, int id, int *n);
extern void es_dead_letters_done(int id, int64 position);
extern EsNameSet *es_dead_letters_parked_streams(const EsCatalog *cat, int id);
extern void es_dead_letters_park(const EsProjection *projection, List *parked);
extern void es_dead_letters_add(const EsProjection *projection, int64 position, int attempts,
								const EsError *error);
extern void es_dead_letters_skip(const EsProjection *projection, int64 position);
extern void es_dead_letters_store(int id, const EsDeadLetter *letter);
extern void es_dead_letters_remove(int id);
extern void es_dead_letters_init(void);

#endif							/* ES_DEAD_LETTERS_H */
