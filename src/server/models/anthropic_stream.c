/* The answer of POST /v1/messages: events that open, fill and close blocks. */
#include "base/mem.h"
#include "server/models/anthropic_priv.h"
#include <string.h>

static int append_member(struct answer *a, struct part *p, const json_t *o, const char *key)
{
	size_t len;
	const char *s = member_str(o, key, &len);

	return answer_append(a, p, s, len);
}

static int add_signature(struct answer *a, struct part *p, const json_t *o)
{
	size_t len;
	const char *s = member_str(o, "signature", &len);

	a->bytes += len;
	if (a->bytes > ANSWER_BYTES_MAX || strbuf_add(&p->signature, s, len) != OK)
		return answer_fail(a, FAILURE_FINAL, "answered with more than %zu bytes", ANSWER_BYTES_MAX);
	return OK;
}

static int anthropic_stream_add_call(struct answer *a, struct part *p, const json_t *block)
{
	const json_t *input = json_object_get(block, "input");
	size_t len;
	AUTO_STR text = json_object_size(input) > 0 ? json_text(input) : NULL;

	str_set(&p->name, member_str(block, "name", &len));
	return text != NULL ? answer_append(a, p, text, strlen(text)) : OK;
}

/* A block of an unknown kind is not ours to understand: its deltas find no part. */
static int anthropic_stream_open_block(struct answer *a, const json_t *block, int64_t index)
{
	static const struct {
		const char *type;
		enum part_kind kind;
	} kinds[] = {{"text", PART_TEXT}, {"thinking", PART_THINKING}, {"redacted_thinking", PART_REDACTED},
	    {"tool_use", PART_CALL}};
	size_t i = 0, len;
	const char *type = member_str(block, "type", &len);
	struct part *p;
	int rc;

	while (i < ARRAY_LEN(kinds) && strcmp(kinds[i].type, type) != 0)
		i++;
	if (i == ARRAY_LEN(kinds))
		return OK;
	p = answer_add_part(a, kinds[i].kind, index);
	if (p == NULL)
		return ERR_PROTOCOL;
	switch (kinds[i].kind) {
	case PART_TEXT:
		return append_member(a, p, block, "text");
	case PART_THINKING:
		rc = append_member(a, p, block, "thinking");
		return rc == OK ? add_signature(a, p, block) : rc;
	case PART_REDACTED:
		return append_member(a, p, block, "data");
	case PART_CALL:
		return anthropic_stream_add_call(a, p, block);
	}
	return OK;
}

static int fill_block(struct answer *a, const json_t *delta, int64_t index)
{
	size_t len;
	const char *type = member_str(delta, "type", &len);
	struct part *p = answer_part(a, index);

	if (p == NULL)
		return OK;
	if (strcmp(type, "text_delta") == 0 && p->kind == PART_TEXT)
		return append_member(a, p, delta, "text");
	if (strcmp(type, "thinking_delta") == 0 && p->kind == PART_THINKING)
		return append_member(a, p, delta, "thinking");
	if (strcmp(type, "signature_delta") == 0 && p->kind == PART_THINKING)
		return add_signature(a, p, delta);
	if (strcmp(type, "input_json_delta") == 0 && p->kind == PART_CALL)
		return append_member(a, p, delta, "partial_json");
	return OK;
}

/* The counts are totals so far; those that an event leaves out stay. */
static void anthropic_stream_take_usage(struct answer *a, const json_t *usage)
{
	const struct {
		const char *key;
		int64_t *to;
	} counts[] = {{"input_tokens", &a->usage.input_tokens}, {"output_tokens", &a->usage.output_tokens},
	    {"cache_read_input_tokens", &a->usage.cache_read_tokens},
	    {"cache_creation_input_tokens", &a->usage.cache_write_tokens}};

	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		if (json_is_number(json_object_get(usage, counts[i].key)))
			*counts[i].to = member_count(usage, counts[i].key);
}

static void anthropic_stream_take_reason(struct answer *a, const json_t *o)
{
	size_t len;
	const char *reason = member_str(o, "stop_reason", &len);

	if (len == 0)
		return;
	a->stopped = true;
	if (strcmp(reason, "max_tokens") == 0) {
		a->stop = MODEL_STOP_LENGTH;
	} else if (strcmp(reason, "model_context_window_exceeded") == 0) {
		a->stop = MODEL_STOP_LENGTH;
		a->out_of_context = true;
	} else if (strcmp(reason, "refusal") == 0) {
		a->stop = MODEL_STOP_REFUSAL;
	}
}

static int take_error(struct answer *a, const json_t *event)
{
	failure_of_error(a, json_object_get(event, "error"));
	return ERR_PROTOCOL;
}

int anthropic_event(struct answer *a, const char *data, size_t len)
{
	AUTO_JSON event = len > 0 ? answer_json(data, len) : NULL;
	const char *type = member_str(event, "type", &len);
	int64_t index = member_count(event, "index");

	if (data[0] == '\0')
		return OK;
	if (!json_is_object(event))
		return answer_fail(a, FAILURE_RETRY, "sent an event that is not JSON");
	if (strcmp(type, "error") == 0 || (type[0] == '\0' && json_object_get(event, "error") != NULL))
		return take_error(a, event);
	if (strcmp(type, "content_block_start") == 0)
		return anthropic_stream_open_block(a, json_object_get(event, "content_block"), index);
	if (strcmp(type, "content_block_delta") == 0)
		return fill_block(a, json_object_get(event, "delta"), index);
	if (strcmp(type, "message_start") == 0) {
		anthropic_stream_take_usage(a, json_object_get(json_object_get(event, "message"), "usage"));
	} else if (strcmp(type, "message_delta") == 0) {
		anthropic_stream_take_usage(a, json_object_get(event, "usage"));
		anthropic_stream_take_reason(a, json_object_get(event, "delta"));
	} else if (strcmp(type, "message_stop") == 0) {
		a->ended = true;
	}
	return OK;
}

int anthropic_whole(struct answer *a, const json_t *body)
{
	const json_t *content = json_object_get(body, "content");
	size_t i;
	json_t *block;
	int rc = OK;

	if (json_object_get(body, "error") != NULL)
		return take_error(a, body);
	if (!json_is_array(content))
		return answer_fail(a, FAILURE_RETRY, "answered with JSON that holds no message");
	json_array_foreach((json_t *)content, i, block)
	{
		if (rc == OK)
			rc = anthropic_stream_open_block(a, block, (int64_t)i);
	}
	anthropic_stream_take_usage(a, json_object_get(body, "usage"));
	anthropic_stream_take_reason(a, body);
	if (rc == OK)
		a->stopped = a->ended = true;
	return rc;
}

static json_t *native_block(const struct part *p)
{
	json_t *o = json_object();

	if (p->kind == PART_THINKING) {
		json_put(o, "type", "thinking");
		json_put(o, "thinking", strbuf_str(&p->text));
		json_put(o, "signature", strbuf_str(&p->signature));
	} else if (p->kind == PART_REDACTED) {
		json_put(o, "type", "redacted_thinking");
		json_put(o, "data", strbuf_str(&p->text));
	} else if (p->kind == PART_TEXT) {
		json_put(o, "type", "text");
		json_put(o, "text", strbuf_str(&p->text));
	} else {
		json_put(o, "type", "tool_use");
	}
	return o;
}

json_t *anthropic_native(const struct answer *a)
{
	json_t *blocks = json_array();
	bool thought = false;

	for (size_t i = 0; i < a->n_parts; i++) {
		thought = thought || a->parts[i].kind == PART_THINKING || a->parts[i].kind == PART_REDACTED;
		json_array_append_new(blocks, native_block(&a->parts[i]));
	}
	if (thought)
		return json_pack("{s:o}", "blocks", blocks);
	json_decref(blocks);
	return NULL;
}

static const struct http_header fixed_headers[] = {{"anthropic-version", "2023-06-01"}, {NULL, NULL}};

const struct wire wire_anthropic = {.type = "anthropic",
    .path = "/v1/messages",
    .key_header = "x-api-key",
    .key_prefix = "",
    .fixed_headers = fixed_headers,
    .write_request = anthropic_write_request,
    .on_event = anthropic_event,
    .on_whole = anthropic_whole,
    .native = anthropic_native};
