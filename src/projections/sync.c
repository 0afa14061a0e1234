/*
 * sync.c
 *		Copying which projections there are, and how far they have come, from the
 *		tables to shared memory.
 *
 * The scheduler does it when the list has changed, and at long intervals in case it was not
 * woken.  It only reads, so a sync takes no transaction id and writes nothing; and
 * one that finds what it found before makes nothing due (figures.c, 3).
 *
 * Locks: AccessShare on the tables; the figures' lock, for moments, after all is read.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "core/spi.h"
#include "projections/figures.h"
#include "projections/sync.h"

/*
 * Assumes a lock on event_log.  For how many was there no room?
 */
int
es_projections_sync(const EsCatalog *cat)
{
	static EsStatement read = {
		"SELECT projection_id, checkpoint FROM eventstore.projection_progress ORDER BY projection_id",
		{InvalidOid}
	};
	const EsProjections *all = es_definitions_anew(cat);
	EsStored   *stored = palloc0(sizeof(EsStored) * Max(all->n, 1));
	int			n = all->n;
	int			at = 0;
	int			rows;
	int			without_entry;
	bool		isnull;
	EsSpi		spi;

	for (int i = 0; i < n; i++)
	{
		const EsProjection *projection = &all->list[i];

		stored[i].id = projection->id;
		stored[i].runnable = projection->runs && !projection->live;
		stored[i].wants_inline = projection->is_inline && !projection->live;
		stored[i].version = projection->version;
	}
	es_spi_begin(&spi);
	rows = (int) es_spi_look(&read, NULL);
	for (int row = 1; row <= rows; row++)
	{
		int			id = DatumGetInt32(es_spi_value(row, 1, &isnull));

		/* both are in the order of ids */
		while (at < n && stored[at].id < id)
			at++;
		if (at < n && stored[at].id == id)
			stored[at].checkpoint = DatumGetInt64(es_spi_value(row, 2, &isnull));
	}
	es_spi_end(&spi);
	without_entry = es_figures_set(cat->position_register, stored, n);
	pfree(stored);
	return without_entry;
}
