/*
 * name.c
 *		Names of streams and types, and the category of a stream.
 *
 * Names are compared byte by byte and taken as they are: no case folding, no
 * normalisation.  A category is the name up to the first '-', else the whole
 * name; a name that is a bare UUID has the category ''.
 */
#include "postgres.h"

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

	if (c < 0x20 || c == 0x7f)
		return true;
	if (GetDatabaseEncoding() == PG_UTF8)
		return c == 0xc2 && len > 1 &&
			(unsigned char) s[1] >= 0x80 && (unsigned char) s[1] <= 0x9f;
	return c >= 0x80 && c <= 0x9f && is_iso_8859(GetDatabaseEncoding());
}

/*
 * Raise 22023 if the name may not be used for a new stream or type.  "what"
 * says which of the two in the message.
 */
void
es_name_check(EsName name, const char *what)
{
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
		int			len = pg_mblen(name.bytes + i);

		if (is_control(name.bytes + i, Min(len, name.len - i)))
			ereport(ERROR,
					(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
					 errmsg("%s must not contain control characters", what)));
		i += len;
	}
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
