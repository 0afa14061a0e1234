/*
 * format.h
 *		Format 1: what is stored by its hash, and how the hash is made.
 *
 * With hash(x, seed) as in core/hash.h, names in UTF-8:
 *
 *	tag in event_tag			hash(tag, 0)
 *	bucket of a category		hash(category, 0) modulo 256
 *	type key					hash(schema version, hash(type, hash(first, attempt)))
 *	with a content type			hash(content type, that)
 *		first: the category's name, or the number of the bucket;
 *		attempt: 0, or more where the keys before are taken by another content
 *	slot of a stream			hash(boundary, 0) modulo 1024
 *		boundary: the name up to the first separator, else the whole (boundary.c)
 *
 * The correlation index is the exception: it holds the server's own hash, which is nowhere
 * but in the index, and a restore makes that anew.
 */
#ifndef ES_FORMAT_H
#define ES_FORMAT_H

#include "core/catalog.h"
#include "core/name.h"

#define ES_BUCKETS		256
#define ES_SLOTS		1024

extern int32 es_format_bucket(EsName category);
extern int64 es_format_category_key(EsName category, EsName type, int32 schema_version,
									EsName content_type, int attempt);
extern int64 es_format_bucket_key(int32 bucket, EsName type, int32 schema_version,
								  EsName content_type, int attempt);
extern void es_format_check(const EsCatalog *cat);
extern void es_format_begin(const EsCatalog *cat);
extern void es_format_write(const EsCatalog *cat);

#endif							/* ES_FORMAT_H */
