/*
 * turn.h
 *		A worker's turn with a projection: what it notes in the projection's entry.
 */
#ifndef ES_TURN_H
#define ES_TURN_H

#include "projections/figures.h"

extern void es_turn_begin(EsFigures *figures);
extern void es_turn_show_batch(EsFigures *figures, int64 events, int64 done);
extern void es_turn_note_event(int64 events_in_batch);
extern int64 es_turn_events_done(void);
extern void es_turn_end(EsFigures *figures, int64 events);
extern bool es_turn_is_time_to_store(EsFigures *figures);
extern bool es_turn_is_time_to_switch(EsFigures *figures);
extern void es_turn_note_no_switch(EsFigures *figures);
extern void es_turn_nothing(EsFigures *figures, TransactionId version, int64 from, int64 upto);
extern void es_turn_put_off(EsFigures *figures, int64 delay_ms, int batch_limit);
extern void es_turn_note_death(EsFigures *figures);
extern bool es_turn_was_interrupted(EsFigures *figures);
extern void es_turn_release(EsFigures *figures);

#endif							/* ES_TURN_H */
