/*
 * payload.c
 *		The bytes that an event carries beside its data, and their content type.
 *
 * The bytes are stored as they come, in a column of event_log that is null for an event
 * without them.  The content type is kept in the dictionary, as part of what the type key
 * stands for (log/dictionary.c): the same for many events, it takes no room in each.
 *
 * Locks: none.
 * Crash: nothing is kept here.
 */
#include "postgres.h"

#include "utils/builtins.h"
#include "utils/fmgrprotos.h"

#include "append/payload.h"

/*
 * Give an event its payload, a bytea, and its content type, a text; 0 stands for none.
 * Both must stay as long as the event.
 */
void
es_payload_set(EsEvent *event, Datum payload, Datum content_type)
{
	if (payload != 0)
		event->payload = PointerGetDatum(DatumGetByteaPP(payload));
	if (content_type == 0)
		return;
	event->content_type = es_name_from_text(content_type);
	es_name_check(event->content_type, "content_type");
	if (payload == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("content_type describes a payload, and there is none")));
}

static void
base64_context(void *arg)
{
	errcontext("\"payload\", which must be base64");
}

/* The bytes that a string in base64 stands for, as decode() has it: 22023 if it is none. */
Datum
es_payload_from_base64(EsName base64)
{
	ErrorContextCallback callback = {error_context_stack, base64_context, NULL};
	text	   *string = es_name_to_text(base64);
	Datum		bytes;

	error_context_stack = &callback;
	bytes = DirectFunctionCall2(binary_decode, PointerGetDatum(string), CStringGetTextDatum("base64"));
	error_context_stack = callback.previous;
	pfree(string);
	return bytes;
}
