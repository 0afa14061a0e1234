/*
 * spi.h
 *		SQL statements on the store's own tables, for work that appends do not wait for.
 */
#ifndef ES_SPI_H
#define ES_SPI_H

#include "core/catalog.h"
#include "executor/spi.h"

#define ES_SPI_MAX_ARGS		20

/* A statement, its parameters' types ended by 0, and its plan once it has one. */
typedef struct EsStatement
{
	const char *sql;
	Oid			types[ES_SPI_MAX_ARGS];
	SPIPlanPtr	plan;
} EsStatement;

/* As the owner of the store's tables, connected to SPI. */
typedef struct EsSpi
{
	EsRoleScope owner;
} EsSpi;

extern void es_spi_begin(EsSpi *spi);
extern void es_spi_end(EsSpi *spi);
extern uint64 es_spi_look(EsStatement *statement, const Datum *values);
extern uint64 es_spi_see(EsStatement *statement, const Datum *values);
extern uint64 es_spi_run(EsStatement *statement, const Datum *values, const bool *isnull);
extern Datum es_spi_value(int row, int column, bool *isnull);
extern char *es_spi_text(int row, int column);
extern bool es_spi_fires_trigger(void);
extern Datum es_spi_numbers(const int64 *numbers, int n);
extern Datum es_spi_texts(List *strings);

#endif							/* ES_SPI_H */
