/*
 * tag_rows.h
 *		Storing where the events of a tag are.
 */
#ifndef ES_TAG_ROWS_H
#define ES_TAG_ROWS_H

#include "append/append.h"

extern void es_tag_rows_store(const EsAppend *call, const EsCatalog *cat);

#endif							/* ES_TAG_ROWS_H */
