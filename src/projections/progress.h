/*
 * progress.h
 *		The stored progress of a projection: how far it has come.
 */
#ifndef ES_PROGRESS_H
#define ES_PROGRESS_H

#include "core/error.h"
#include "projections/definition.h"

typedef struct EsProgress
{
	int64		checkpoint;
	int			failures;		/* since the checkpoint last moved */
	int64		failed_position;	/* 0: none, or no single event */
} EsProgress;

extern void es_progress_create(int id, int64 checkpoint);
extern bool es_progress_lock(int id, EsProgress *progress);
extern bool es_progress_try_lock(int id, EsProgress *progress);
extern bool es_progress_read(int id, EsProgress *progress);
extern void es_progress_move(int id, int64 checkpoint);
extern void es_progress_note_obstacle(int id, const char *message, int sqlstate);
extern bool es_progress_fail(int id, int failures, int64 position, const EsError *error);

extern void es_progress_set_state(int id, EsState state, bool live, int64 rebuild_up_to);
extern void es_progress_remove(int id);

#endif							/* ES_PROGRESS_H */
