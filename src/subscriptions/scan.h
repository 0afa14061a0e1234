/*
 * scan.h
 *		Finding new events, of any partitions that a fetch can take.
 */
#ifndef ES_SCAN_H
#define ES_SCAN_H

#include "subscriptions/offer.h"

extern void es_scan_new(EsFetch *fetch);

#endif							/* ES_SCAN_H */
