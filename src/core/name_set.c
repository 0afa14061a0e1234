/*
 * name_set.c
 *		Sets of names, in the memory context in which they were made.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "utils/hsearch.h"

#include "core/name_set.h"

/* A name as the key of a hash table: the bytes after it are zeros. */
typedef struct Key
{
	char		bytes[ES_NAME_MAX_BYTES + 1];
} Key;

struct EsNameSet
{
	HTAB	   *names;
};

static Key
key_of_name(EsName name)
{
	Key			key = {{0}};

	memcpy(key.bytes, name.bytes, Min(name.len, ES_NAME_MAX_BYTES));
	return key;
}

/* An empty set; "what" names its memory. */
EsNameSet *
es_name_set_create(const char *what)
{
	EsNameSet  *set = palloc(sizeof(EsNameSet));
	HASHCTL		ctl = {.keysize = sizeof(Key), .entrysize = sizeof(Key), .hcxt = CurrentMemoryContext};

	set->names = hash_create(what, 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	return set;
}

void
es_name_set_add(EsNameSet *set, EsName name)
{
	Key			key = key_of_name(name);

	(void) hash_search(set->names, &key, HASH_ENTER, NULL);
}

bool
es_name_set_has(const EsNameSet *set, EsName name)
{
	Key			key = key_of_name(name);

	return hash_search(set->names, &key, HASH_FIND, NULL) != NULL;
}
