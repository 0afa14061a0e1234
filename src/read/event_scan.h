/*
 * event_scan.h
 *		The node of a read in FROM, which gives events as they are found.
 */
#ifndef ES_EVENT_SCAN_H
#define ES_EVENT_SCAN_H

extern void es_event_scan_init(void);

#endif							/* ES_EVENT_SCAN_H */
