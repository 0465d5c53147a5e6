/* The answer of POST /chat/completions, as a stream of chunks or in one piece. The format is spoken by many servers,
 * none of them exactly alike: nearly every member may be missing, null, or said twice. */
#include "base/mem.h"
#include "server/models/openai_priv.h"
#include <string.h>

static int say_text(struct answer *a, enum part_kind kind, const json_t *content)
{
	size_t i, len;
	json_t *piece;
	int rc = OK;

	if (json_is_string(content))
		return answer_say(a, kind, json_string_value(content), json_string_length(content));
	/* Some send pieces: [{"type":"text","text":…}, {"type":"thinking","thinking":[…]}] */
	json_array_foreach((json_t *)content, i, piece)
	{
		const json_t *thinking = json_object_get(piece, "thinking");
		const char *text = member_str(piece, "text", &len);

		if (rc == OK)
			rc = thinking != NULL ? say_text(a, PART_THINKING, thinking) : answer_say(a, kind, text, len);
	}
	return rc;
}

/* Asked with each delta of some servers, so it is not parsed while it cannot be whole. */
static bool holds_whole_object(const struct part *p)
{
	AUTO_JSON j = NULL;
	size_t n = p->text.len;

	while (n > 0 && strchr(" \t\r\n", p->text.data[n - 1]) != NULL)
		n--;
	if (n == 0 || p->text.data[n - 1] != '}')
		return false;
	j = answer_json(p->text.data, n);
	return json_is_object(j);
}

static struct part *last_call(struct answer *a)
{
	for (size_t i = a->n_parts; i > 0; i--)
		if (a->parts[i - 1].kind == PART_CALL)
			return &a->parts[i - 1];
	return NULL;
}

static struct part *call_of_id(struct answer *a, const char *id)
{
	for (size_t i = a->n_parts; i > 0 && id[0] != '\0'; i--)
		if (a->parts[i - 1].kind == PART_CALL && strcmp(a->parts[i - 1].id, id) == 0)
			return &a->parts[i - 1];
	return NULL;
}

/* Which call a delta goes on with; NULL: it begins one. The index decides where there is one, but some servers give all
 * calls the same, or none, some no id, and some a new id with each delta. */
static struct part *call_going_on(
    struct answer *a, const json_t *delta, const char *id, const char *name, bool has_args)
{
	const json_t *index = json_object_get(delta, "index");
	struct part *p = json_is_integer(index) ? answer_part(a, json_integer_value(index)) : call_of_id(a, id);

	if (p == NULL && !json_is_integer(index) && (id[0] == '\0' || name[0] == '\0'))
		p = last_call(a);
	if (p == NULL || name[0] == '\0')
		return p;
	if (id[0] != '\0' && p->id[0] != '\0')
		return strcmp(id, p->id) == 0 ? p : NULL;
	if (!json_is_integer(index) && p->name[0] != '\0' && strcmp(p->name, name) != 0)
		return NULL;
	/* A name once more, no id to tell: another call if this one has all it needs. */
	return has_args && p->name[0] != '\0' && holds_whole_object(p) ? NULL : p;
}

/* A name may be repeated with each delta, or come in pieces. */
static void add_name(struct part *p, const char *name)
{
	if (name[0] == '\0' || strcmp(p->name, name) == 0 || p->text.len > 0 || strlen(p->name) > 200)
		return;
	char *whole = str_printf("%s%.200s", p->name, name);

	free(p->name);
	p->name = whole;
}

static int take_call(struct answer *a, const json_t *delta, bool whole)
{
	const json_t *function = json_object_get(delta, "function"),
		     *arguments = json_object_get(function, "arguments");
	const json_t *index = json_object_get(delta, "index");
	AUTO_STR object = json_is_object(arguments) ? json_text(arguments) : NULL;
	size_t id_len, name_len, len;
	const char *id = member_str(delta, "id", &id_len), *name = member_str(function, "name", &name_len);
	const char *text = object != NULL ? object : member_str(function, "arguments", &len);
	struct part *p;

	if (object != NULL)
		len = strlen(object);
	p = whole ? NULL : call_going_on(a, delta, id, name, len > 0);
	if (p == NULL)
		p = answer_add_part(a, PART_CALL, json_is_integer(index) ? json_integer_value(index) : -1);
	if (p == NULL)
		return ERR_PROTOCOL;
	if (p->id[0] == '\0' && id_len < 256)
		str_set(&p->id, id);
	add_name(p, name);
	return answer_append(a, p, text, len);
}

static void openai_stream_take_usage(struct answer *a, const json_t *usage)
{
	const json_t *details = json_object_get(usage, "prompt_tokens_details");
	int64_t input = member_count(usage, "prompt_tokens"), cached = member_count(details, "cached_tokens");
	int64_t written = member_count(details, "cache_write_tokens");

	if (!json_is_object(usage))
		return;
	if (cached == 0) /* DeepSeek's word for it */
		cached = member_count(usage, "prompt_cache_hit_tokens");
	cached = MIN(cached, input);
	written = MIN(written, input - cached);
	a->usage = (struct model_usage){.input_tokens = input - cached - written,
	    .output_tokens = member_count(usage, "completion_tokens"),
	    .cache_read_tokens = cached,
	    .cache_write_tokens = written};
}

static int openai_stream_take_reason(struct answer *a, const json_t *choice)
{
	size_t len;
	const char *reason = member_str(choice, "finish_reason", &len);

	if (len == 0)
		return OK;
	if (strcmp(reason, "error") == 0 || strcmp(reason, "abort") == 0)
		return answer_fail(a, FAILURE_RETRY, "gave up in the middle of its answer");
	a->stopped = true;
	if (strcmp(reason, "length") == 0)
		a->stop = MODEL_STOP_LENGTH;
	else if (strcmp(reason, "content_filter") == 0)
		a->stop = MODEL_STOP_REFUSAL;
	return OK;
}

/* `message` is a delta, or the message of a whole answer. */
static int openai_stream_take_message(struct answer *a, const json_t *message, bool whole)
{
	static const char *const fields[] = {"reasoning_content", "reasoning"};
	const json_t *thinking = NULL, *delta;
	const json_t *refusal = json_object_get(message, "refusal");
	size_t i;
	int rc;

	for (size_t i_field = 0; i_field < ARRAY_LEN(fields) && thinking == NULL; i_field++) {
		thinking = json_object_get(message, fields[i_field]);
		if (!json_is_string(thinking))
			thinking = NULL;
		else
			a->thinking_field = fields[i_field];
	}
	rc = say_text(a, PART_THINKING, thinking);
	if (rc == OK)
		rc = say_text(a, PART_TEXT, json_object_get(message, "content"));
	if (rc == OK && json_string_length(refusal) > 0) {
		a->stop = MODEL_STOP_REFUSAL;
		rc = say_text(a, PART_TEXT, refusal);
	}
	json_array_foreach(json_object_get(message, "tool_calls"), i, delta)
	{
		if (rc == OK && json_is_object(delta))
			rc = take_call(a, delta, whole);
	}
	return rc;
}

static int take_chunk(struct answer *a, const json_t *chunk, const char *member)
{
	const json_t *error = json_object_get(chunk, "error");
	const json_t *choices = json_object_get(chunk, "choices"), *choice = json_array_get(choices, 0);
	bool whole = strcmp(member, "message") == 0;
	int rc;

	if (!json_is_object(chunk))
		return answer_fail(a, FAILURE_RETRY, "sent a chunk that is no object");
	if (error != NULL && !json_is_null(error)) {
		failure_of_error(a, error);
		return ERR_PROTOCOL;
	}
	/* An error as some proxies word it, without the envelope. */
	if (choices == NULL && json_is_string(json_object_get(chunk, "detail"))) {
		failure_of_error(a, json_object_get(chunk, "detail"));
		return ERR_PROTOCOL;
	}
	rc = openai_stream_take_message(a, json_object_get(choice, member), whole);
	openai_stream_take_usage(a, json_object_get(chunk, "usage"));
	return rc != OK ? rc : openai_stream_take_reason(a, choice);
}

int openai_event(struct answer *a, const char *data, size_t len)
{
	AUTO_JSON chunk = NULL;

	if (len == 0)
		return OK;
	if (strncmp(data, "[DONE]", 6) == 0) {
		a->ended = true;
		return OK;
	}
	chunk = answer_json(data, len);
	if (chunk == NULL)
		return answer_fail(a, FAILURE_RETRY, "sent a chunk that is not JSON");
	return take_chunk(a, chunk, "delta");
}

int openai_whole(struct answer *a, const json_t *body)
{
	int rc = take_chunk(a, body, "message");

	if (rc == OK &&
	    !json_is_object(json_object_get(json_array_get(json_object_get(body, "choices"), 0), "message")))
		return answer_fail(a, FAILURE_RETRY, "answered with JSON that holds no message");
	if (rc == OK)
		a->stopped = a->ended = true;
	return rc;
}

/* What was thought before a call, under the name that the server has for it. Of an answer without calls nobody wants it
 * back. */
json_t *openai_native(const struct answer *a)
{
	struct strbuf thought = STRBUF(ANSWER_BYTES_MAX);
	bool calls = false;
	json_t *native;

	for (size_t i = 0; i < a->n_parts; i++) {
		calls = calls || a->parts[i].kind == PART_CALL;
		if (a->parts[i].kind == PART_THINKING)
			strbuf_adds(&thought, strbuf_str(&a->parts[i].text));
	}
	native = a->thinking_field != NULL && calls ? json_object() : NULL;
	if (native != NULL)
		json_put(native, a->thinking_field, strbuf_str(&thought));
	strbuf_fini(&thought);
	return native;
}

const struct wire wire_openai = {.type = "openai",
    .path = "/chat/completions",
    .key_header = "authorization",
    .key_prefix = "Bearer ",
    .write_request = openai_write_request,
    .on_event = openai_event,
    .on_whole = openai_whole,
    .native = openai_native};
