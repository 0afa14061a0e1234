/*
 * errors.h
 *		The store's own SQLSTATEs; the reference in the README lists them.
 */
#ifndef ES_ERRORS_H
#define ES_ERRORS_H

#include "postgres.h"

#define ES_WRONG_EXPECTED_VERSION	MAKE_SQLSTATE('S', 'E', '0', '0', '1')
#define ES_STREAM_TOMBSTONED		MAKE_SQLSTATE('S', 'E', '0', '0', '2')
#define ES_EVENT_ID_TAKEN			MAKE_SQLSTATE('S', 'E', '0', '0', '3')
#define ES_CONDITION_FAILED			MAKE_SQLSTATE('S', 'E', '0', '0', '4')
#define ES_PROJECTION_STOPPED		MAKE_SQLSTATE('S', 'E', '0', '0', '5')
#define ES_POSITION_AHEAD			MAKE_SQLSTATE('S', 'E', '0', '0', '6')

#endif							/* ES_ERRORS_H */
