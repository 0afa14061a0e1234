/*
 * target.h
 *		A table as the executor sees it that rows are stored into.
 */
#ifndef ES_TARGET_H
#define ES_TARGET_H

#include "postgres.h"
#include "nodes/execnodes.h"

typedef struct EsTarget
{
	EState	   *estate;
	ResultRelInfo *relinfo;
} EsTarget;

extern EsTarget es_target_open(Relation rel);
extern void es_target_note_update(EsTarget *target, int column);
extern void es_target_close(EsTarget *target);

#endif							/* ES_TARGET_H */
