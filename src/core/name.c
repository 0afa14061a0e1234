/*
 * name.c
 *		Names of streams and types, and the category of a stream.
 *
 * Names are compared byte by byte and taken as they are: no case folding, no
 * normalisation.  A category is the name up to the first '-', else the whole
 * name; a name that is a bare UUID has the category ''.
 *
 * Every name has a form in UTF-8, whatever the encoding of the database, for a dump may
 * go to another: es_name_check refuses one that has not.  In SQL_ASCII nobody knows the
 * encoding, and the form in UTF-8 is the bytes themselves.
 */
#include "postgres.h"

#include "catalog/pg_conversion.h"
#include "catalog/pg_namespace.h"
#include "fmgr.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

#include "compat/compat.h"
#include "core/name.h"

/* The bytes of a text datum, which must stay. */
EsName
es_name_from_text(Datum value)
{
	text	   *t = DatumGetTextPP(value);
	EsName		name = {VARDATA_ANY(t), VARSIZE_ANY_EXHDR(t)};

	return name;
}

/* The bytes of a C string, which must stay. */
EsName
es_name_from_string(const char *string)
{
	EsName		name = {string, strlen(string)};

	return name;
}

/* A copy as a value of type text. */
text *
es_name_to_text(EsName name)
{
	return cstring_to_text_with_len(name.bytes, name.len);
}

static bool
is_ascii(EsName name)
{
	for (int i = 0; i < name.len; i++)
	{
		if (IS_HIGHBIT_SET(name.bytes[i]))
			return false;
	}
	return true;
}

/* Without the name: it could not be converted for the client either. */
static void
refuse_unconvertible(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_UNTRANSLATABLE_CHARACTER),
			 errmsg("a name has no equivalent in encoding \"UTF8\""),
			 errdetail("The encoding of the database is %s.", GetDatabaseEncodingName())));
}

/*
 * A copy in another encoding, by the server's own conversion, not one that somebody has
 * put before it.  It fails where a character has no equivalent.
 */
static EsName
convert_name(EsName name, int from, int to)
{
	Oid			conversion = FindDefaultConversion(PG_CATALOG_NAMESPACE, from, to);
	int			size = name.len * MAX_CONVERSION_GROWTH + 1;
	char	   *bytes;

	if (!OidIsValid(conversion))
		refuse_unconvertible();
	bytes = palloc(size);
	(void) pg_do_encoding_conversion_buf(conversion, from, to, (unsigned char *) name.bytes, name.len,
										 (unsigned char *) bytes, size, false);
	return es_name_from_string(bytes);
}

/* The encoding that has the characters of a leading byte in MULE_INTERNAL; -1: none. */
static int
encoding_of_mule(unsigned char lead)
{
	static const struct
	{
		unsigned char lead;
		int			encoding;
	}			sets[] = {
		{LC_ISO8859_1, PG_LATIN1}, {LC_ISO8859_2, PG_LATIN2}, {LC_ISO8859_3, PG_LATIN3},
		{LC_ISO8859_4, PG_LATIN4}, {LC_KOI8_R, PG_KOI8R}, {LC_JISX0201K, PG_EUC_JP},
		{LC_JISX0208, PG_EUC_JP}, {LC_JISX0212, PG_EUC_JP}, {LC_GB2312_80, PG_EUC_CN},
		{LC_KS5601, PG_EUC_KR}, {LC_CNS11643_1, PG_EUC_TW}, {LC_CNS11643_2, PG_EUC_TW},
	};

	for (int i = 0; i < lengthof(sets); i++)
	{
		if (sets[i].lead == lead)
			return sets[i].encoding;
	}
	return -1;
}

/* There is no conversion from MULE_INTERNAL to UTF-8: each character goes by another. */
static EsName
convert_mule(EsName name)
{
	char	   *bytes = palloc(name.len * MAX_CONVERSION_GROWTH + 1);
	EsName		utf8 = {bytes, 0};

	for (int i = 0; i < name.len;)
	{
		EsName		character = {name.bytes + i, Min(pg_mblen(name.bytes + i), name.len - i)};

		i += character.len;
		if (IS_HIGHBIT_SET(character.bytes[0]))
		{
			int			encoding = encoding_of_mule((unsigned char) character.bytes[0]);

			if (encoding < 0)
				refuse_unconvertible();
			character = convert_name(convert_name(character, PG_MULE_INTERNAL, encoding), encoding, PG_UTF8);
		}
		memcpy(bytes + utf8.len, character.bytes, character.len);
		utf8.len += character.len;
	}
	return utf8;
}

/*
 * The name in UTF-8: itself, or a palloc'd copy.  An error (22P05) if it has no such form.
 */
EsName
es_name_in_utf8(EsName name)
{
	int			encoding = GetDatabaseEncoding();

	if (encoding == PG_UTF8 || encoding == PG_SQL_ASCII || is_ascii(name))
		return name;
	return encoding == PG_MULE_INTERNAL ? convert_mule(name) : convert_name(name, encoding, PG_UTF8);
}

/* Encodings in which the bytes 0x80 to 0x9f are control characters. */
static bool
is_iso_8859(int encoding)
{
	return (encoding >= PG_LATIN1 && encoding <= PG_LATIN10) ||
		(encoding >= PG_ISO_8859_5 && encoding <= PG_ISO_8859_8);
}

/*
 * Is the character of len bytes at s a control character, of ASCII or U+0080 to
 * U+009F?
 */
static bool
is_control(const char *s, int len)
{
	unsigned char c = (unsigned char) s[0];

	if (!IS_HIGHBIT_SET(c))
		return c < 0x20 || c == 0x7f;
	if (GetDatabaseEncoding() == PG_UTF8)
		return c == 0xc2 && len > 1 &&
			(unsigned char) s[1] >= 0x80 && (unsigned char) s[1] <= 0x9f;
	return c >= 0x80 && c <= 0x9f && is_iso_8859(GetDatabaseEncoding());
}

/*
 * Raise 22023 if the name may not be used for a new stream or type, 22P05 if it has no
 * form in UTF-8.  "what" says which of the two in the message.
 */
void
es_name_check(EsName name, const char *what)
{
	EsName		utf8;

	if (name.len == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not be empty", what)));

	/* A character takes at least a byte: most names need no counting. */
	if (name.len > ES_NAME_MAX_CHARS &&
		pg_mbstrlen_with_len(name.bytes, name.len) > ES_NAME_MAX_CHARS)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s is longer than %d characters", what, ES_NAME_MAX_CHARS)));

	if (name.bytes[0] == '-')
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%s must not begin with \"-\"", what)));

	for (int i = 0; i < name.len;)
	{
		/* an ASCII character is one byte in every encoding of a database */
		int			len = IS_HIGHBIT_SET(name.bytes[i]) ? pg_mblen(name.bytes + i) : 1;

		if (is_control(name.bytes + i, Min(len, name.len - i)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain control characters", what)));
		i += len;
	}

	utf8 = es_name_in_utf8(name);
	if (utf8.bytes != name.bytes)
		pfree((void *) utf8.bytes);
}

/* 8-4-4-4-12 hexadecimal digits, upper or lower case, and nothing else? */
static bool
is_bare_uuid(EsName name)
{
	if (name.len != 36)
		return false;
	for (int i = 0; i < 36; i++)
	{
		bool		dash = i == 8 || i == 13 || i == 18 || i == 23;

		if (dash ? name.bytes[i] != '-' : !isxdigit((unsigned char) name.bytes[i]))
			return false;
	}
	return true;
}

EsName
es_name_category(EsName stream)
{
	EsName		category = stream;
	const char *dash = memchr(stream.bytes, '-', stream.len);

	if (dash == NULL)
		return category;
	category.len = is_bare_uuid(stream) ? 0 : dash - stream.bytes;
	return category;
}

static int
compare_names(const void *a, const void *b)
{
	return es_name_compare(*(const EsName *) a, *(const EsName *) b);
}

/* Sorted by their bytes, each once; how many are left. */
int
es_names_unique(EsName *names, int n)
{
	int			kept = 0;

	qsort(names, n, sizeof(EsName), compare_names);
	for (int i = 0; i < n; i++)
	{
		if (kept == 0 || !es_name_equal(names[i], names[kept - 1]))
			names[kept++] = names[i];
	}
	return kept;
}
