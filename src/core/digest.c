/*
 * digest.c
 *		Digests that tell values apart without keeping them: SHA-256.
 *
 * Equal values have equal digests, in every database and on every machine, so that digests
 * can be dumped: text counts as UTF-8, a number as its shortest digits (1.0 is 1), and the
 * keys of an object in the order that jsonb has in UTF-8.  Each part is told from the next
 * by its kind and length.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "common/cryptohash.h"
#include "common/sha2.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"
#include "utils/numeric.h"

#include "core/digest.h"

static void
check_hash(bool done, pg_cryptohash_ctx *hash)
{
	if (!done)
		elog(ERROR, "could not compute SHA-256: %s", pg_cryptohash_error(hash));
}

static pg_cryptohash_ctx *
begin_digest(void)
{
	pg_cryptohash_ctx *hash = pg_cryptohash_create(PG_SHA256);

	check_hash(pg_cryptohash_init(hash) >= 0, hash);
	return hash;
}

static bytea *
end_digest(pg_cryptohash_ctx *hash)
{
	bytea	   *digest = palloc(VARHDRSZ + PG_SHA256_DIGEST_LENGTH);

	SET_VARSIZE(digest, VARHDRSZ + PG_SHA256_DIGEST_LENGTH);
	check_hash(pg_cryptohash_final(hash, (uint8 *) VARDATA(digest), PG_SHA256_DIGEST_LENGTH) >= 0, hash);
	pg_cryptohash_free(hash);
	return digest;
}

static void
hash_bytes(pg_cryptohash_ctx *hash, char kind, const char *bytes, int len)
{
	uint32		size = pg_hton32((uint32) len);

	check_hash(pg_cryptohash_update(hash, (const uint8 *) &kind, 1) >= 0 &&
			   pg_cryptohash_update(hash, (const uint8 *) &size, sizeof(size)) >= 0 &&
			   pg_cryptohash_update(hash, (const uint8 *) bytes, len) >= 0, hash);
}

/* The same text in UTF-8; of a database that does not know its encoding, as it is. */
static JsonbValue
in_utf8(const char *bytes, int len)
{
	JsonbValue	text = {.type = jbvString};
	char	   *converted = GetDatabaseEncoding() == PG_SQL_ASCII ? (char *) bytes :
		pg_server_to_any(bytes, len, PG_UTF8);

	text.val.string.val = converted;
	text.val.string.len = converted == bytes ? len : (int) strlen(converted);
	return text;
}

static void
put_text(pg_cryptohash_ctx *hash, const char *bytes, int len)
{
	JsonbValue	text = in_utf8(bytes, len);

	hash_bytes(hash, 's', text.val.string.val, text.val.string.len);
}

static void put_container(pg_cryptohash_ctx *hash, JsonbContainer *container);

static void
put_value(pg_cryptohash_ctx *hash, const JsonbValue *value)
{
	char	   *digits;

	switch (value->type)
	{
		case jbvNull:
			hash_bytes(hash, '0', "", 0);
			break;
		case jbvBool:
			hash_bytes(hash, value->val.boolean ? 't' : 'f', "", 0);
			break;
		case jbvString:
			put_text(hash, value->val.string.val, value->val.string.len);
			break;
		case jbvNumeric:
			digits = numeric_normalize(value->val.numeric);
			hash_bytes(hash, 'n', digits, strlen(digits));
			break;
		case jbvBinary:
			put_container(hash, value->val.binary.data);
			break;
		default:
			elog(ERROR, "unexpected jsonb value of type %d", (int) value->type);
	}
}

static int
compare_keys(const void *a, const void *b)
{
	const JsonbValue *x = &((const JsonbPair *) a)->key;
	const JsonbValue *y = &((const JsonbPair *) b)->key;

	if (x->val.string.len != y->val.string.len)
		return x->val.string.len < y->val.string.len ? -1 : 1;
	return memcmp(x->val.string.val, y->val.string.val, x->val.string.len);
}

static void
put_object(pg_cryptohash_ctx *hash, JsonbIterator **iterator, int n)
{
	JsonbPair  *pairs = palloc(sizeof(JsonbPair) * Max(n, 1));
	JsonbValue	value;

	for (int i = 0; i < n; i++)
	{
		(void) JsonbIteratorNext(iterator, &value, true);
		pairs[i].key = in_utf8(value.val.string.val, value.val.string.len);
		(void) JsonbIteratorNext(iterator, &pairs[i].value, true);
	}
	qsort(pairs, n, sizeof(JsonbPair), compare_keys);
	for (int i = 0; i < n; i++)
	{
		hash_bytes(hash, 'k', pairs[i].key.val.string.val, pairs[i].key.val.string.len);
		put_value(hash, &pairs[i].value);
	}
}

static void
put_container(pg_cryptohash_ctx *hash, JsonbContainer *container)
{
	JsonbIterator *iterator = JsonbIteratorInit(container);
	JsonbValue	value;
	JsonbIteratorToken token = JsonbIteratorNext(&iterator, &value, true);

	check_stack_depth();
	CHECK_FOR_INTERRUPTS();
	if (token == WJB_BEGIN_OBJECT)
	{
		hash_bytes(hash, '{', "", 0);
		put_object(hash, &iterator, value.val.object.nPairs);
	}
	else
	{
		/* a scalar is kept as an array of one */
		hash_bytes(hash, value.val.array.rawScalar ? '=' : '[', "", 0);
		while (JsonbIteratorNext(&iterator, &value, true) == WJB_ELEM)
			put_value(hash, &value);
	}
	hash_bytes(hash, '.', "", 0);
}

/* The digest of a jsonb. */
bytea *
es_digest_json(Datum json)
{
	MemoryContext caller = CurrentMemoryContext;
	MemoryContext context = AllocSetContextCreate(caller, "eventstore digest", ALLOCSET_SMALL_SIZES);
	pg_cryptohash_ctx *hash = begin_digest();

	MemoryContextSwitchTo(context);
	put_container(hash, &DatumGetJsonbP(json)->root);
	MemoryContextSwitchTo(caller);
	MemoryContextDelete(context);
	return end_digest(hash);
}

/* The digest of a bytea; 0, for none, gives NULL. */
bytea *
es_digest_bytes(Datum bytes)
{
	pg_cryptohash_ctx *hash;
	bytea	   *value;

	if (bytes == 0)
		return NULL;
	value = DatumGetByteaPP(bytes);
	hash = begin_digest();
	hash_bytes(hash, 'b', VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	if ((Pointer) value != DatumGetPointer(bytes))
		pfree(value);
	return end_digest(hash);
}

/* The digest of a text. */
bytea *
es_digest_text(const char *string)
{
	pg_cryptohash_ctx *hash = begin_digest();

	put_text(hash, string, strlen(string));
	return end_digest(hash);
}

/* NULL may be given, and equals nothing. */
bool
es_digest_equal(const bytea *a, const bytea *b)
{
	return a != NULL && b != NULL && VARSIZE_ANY_EXHDR(a) == VARSIZE_ANY_EXHDR(b) &&
		memcmp(VARDATA_ANY(a), VARDATA_ANY(b), VARSIZE_ANY_EXHDR(a)) == 0;
}
