/*
 * checks.h
 *		What es_check looks for.
 */
#ifndef ES_CHECKS_H
#define ES_CHECKS_H

/*
 * The parameters of each check, null while the log is not sealed: greatest position handed
 * out, and greatest stream key.
 */
#define ES_CHECK_PARAMETERS		2

typedef struct EsCheck
{
	const char *severity;
	const char *sql;			/* object and problem, as text; %s: schema of the functions */
} EsCheck;

extern const EsCheck es_checks[];
extern const int es_number_of_checks;

#endif							/* ES_CHECKS_H */
