/*
 * json.c
 *		Events as a JSON array: [{"type": …, "data": …, "metadata": …, "event_id":
 *		…, "tags": […], "schema_version": …, "payload": base64, "content_type": …}, …].
 *
 * Only "type" must be there.  A key that is none of these is an error, for a
 * misspelt one would lose what it holds.  null for a key is as if it were left
 * out, but for "data", where null is a value.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "append/json.h"
#include "append/payload.h"
#include "core/json.h"

struct EsJsonEvents
{
	JsonbIterator *iterator;
	int			count;
	Jsonb	   *no_data;		/* {} */
};

static void
raise_wrong_type(const char *key, const char *wanted)
{
	ereport(ERROR,
			(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
			 errmsg("\"%s\" must be %s", key, wanted)));
}

EsJsonEvents *
es_json_events_begin(Jsonb *array)
{
	EsJsonEvents *events = palloc0(sizeof(EsJsonEvents));
	JsonbValue	ignored;

	if (!JB_ROOT_IS_ARRAY(array) || JB_ROOT_IS_SCALAR(array))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("events must be a JSON array")));
	events->count = JB_ROOT_COUNT(array);
	events->iterator = JsonbIteratorInit(&array->root);
	(void) JsonbIteratorNext(&events->iterator, &ignored, true);	/* the array's begin */
	events->no_data = DatumGetJsonbP(DirectFunctionCall1(jsonb_in, CStringGetDatum("{}")));
	return events;
}

int
es_json_events_count(EsJsonEvents *events)
{
	return events->count;
}

static EsName
string_value(const JsonbValue *value, const char *key)
{
	if (value->type != jbvString)
		raise_wrong_type(key, "a string");
	return es_json_string(value);
}

static int32
integer_value(const JsonbValue *value, const char *key)
{
	int64		number;

	if (!es_json_whole_number(value, &number))
		raise_wrong_type(key, "an integer");
	if (number < PG_INT32_MIN || number > PG_INT32_MAX)
		raise_wrong_type(key, "an integer of 32 bits");
	return (int32) number;
}

/* The strings of an array, as text. */
static Datum *
tag_values(const JsonbValue *value, int *n)
{
	EsName	   *strings = es_json_strings(value, n);
	Datum	   *tags;

	if (strings == NULL)
		raise_wrong_type("tags", "an array of strings");
	tags = palloc(sizeof(Datum) * Max(*n, 1));
	for (int i = 0; i < *n; i++)
		tags[i] = PointerGetDatum(es_name_to_text(strings[i]));
	pfree(strings);
	return tags;
}

/* A JSON array of strings as an argument of its own; null: no tags. */
Datum *
es_json_tags(Jsonb *array, int *n)
{
	JsonbValue	value;

	*n = 0;
	if (JB_ROOT_IS_SCALAR(array) && JsonbExtractScalar(&array->root, &value) &&
		value.type == jbvNull)
		return NULL;
	value.type = jbvBinary;
	value.val.binary.data = &array->root;
	return tag_values(&value, n);
}

static void
set_key(EsJsonEvent *event, const JsonbValue *key, JsonbValue *value)
{
	if (es_json_key_is(key, "data"))
	{
		event->data = JsonbValueToJsonb(value);
		return;
	}
	if (!es_json_key_is(key, "type") && !es_json_key_is(key, "metadata") && !es_json_key_is(key, "event_id") &&
		!es_json_key_is(key, "tags") && !es_json_key_is(key, "schema_version") && !es_json_key_is(key, "payload") &&
		!es_json_key_is(key, "content_type"))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown key \"%.*s\" in an event", key->val.string.len, key->val.string.val),
				 errhint("An event has the keys type, data, metadata, event_id, tags, schema_version, payload and content_type.")));
	if (value->type == jbvNull)
		return;

	if (es_json_key_is(key, "type"))
		event->type = string_value(value, "type");
	else if (es_json_key_is(key, "metadata"))
		event->metadata = JsonbValueToJsonb(value);
	else if (es_json_key_is(key, "schema_version"))
		event->schema_version = integer_value(value, "schema_version");
	else if (es_json_key_is(key, "tags"))
		event->tags = tag_values(value, &event->ntags);
	else if (es_json_key_is(key, "payload"))
		event->payload = es_payload_from_base64(string_value(value, "payload"));
	else if (es_json_key_is(key, "content_type"))
		event->content_type = PointerGetDatum(es_name_to_text(string_value(value, "content_type")));
	else
	{
		EsName		id = string_value(value, "event_id");

		event->id = *DatumGetUUIDP(DirectFunctionCall1(uuid_in,
													   CStringGetDatum(pnstrdup(id.bytes, id.len))));
		event->has_id = true;
	}
}

/*
 * The next event of the array; call it as often as there are events.
 */
void
es_json_events_next(EsJsonEvents *events, EsJsonEvent *event)
{
	JsonbValue	element;
	JsonbValue	key;
	JsonbValue	value;
	JsonbIterator *iterator;

	memset(event, 0, sizeof(*event));
	event->schema_version = 1;
	event->data = events->no_data;

	(void) JsonbIteratorNext(&events->iterator, &element, true);
	if (element.type != jbvBinary || !JsonContainerIsObject(element.val.binary.data))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("an event must be a JSON object")));

	iterator = JsonbIteratorInit(element.val.binary.data);
	(void) JsonbIteratorNext(&iterator, &key, true);	/* the object's begin */
	while (JsonbIteratorNext(&iterator, &key, true) == WJB_KEY)
	{
		(void) JsonbIteratorNext(&iterator, &value, true);
		set_key(event, &key, &value);
	}
}
