/* The body of POST /v1/messages. */
#include "base/mem.h"
#include "base/text.h"
#include "server/models/anthropic_priv.h"
#include <string.h>

#define DEFAULT_MAX_TOKENS 8192
#define CACHE ",\"cache_control\":{\"type\":\"ephemeral\"}"

/* Messages are written as they come; those of one role that follow each other become one. */
struct writer {
	struct strbuf *b;
	const struct remote *p;
	const struct model_request *req;
	const char *role; /* of the open message, NULL: none */
	size_t blocks; /* in the open message */
	bool thinking; /* thinking blocks may be given back */
};

static void anthropic_open_block(struct writer *w, const char *role, const char *type)
{
	if (w->role != NULL && strcmp(w->role, role) != 0) {
		strbuf_adds(w->b, "]}");
		w->role = NULL;
	}
	if (w->role == NULL) {
		strbuf_addf(
		    w->b, "%s{\"role\":\"%s\",\"content\":[", w->b->data[w->b->len - 1] == '[' ? "" : ",", role);
		w->role = role;
		w->blocks = 0;
	}
	strbuf_addf(w->b, "%s{\"type\":\"%s\"", w->blocks++ > 0 ? "," : "", type);
}

static void add_member(struct writer *w, const char *key, const char *value)
{
	strbuf_addf(w->b, ",\"%s\":", key);
	json_add_string(w->b, value);
}

/* A text block must not be blank. */
static void anthropic_add_text(struct writer *w, const char *role, const char *text)
{
	if (text_is_blank(text))
		return;
	anthropic_open_block(w, role, "text");
	add_member(w, "text", text);
	strbuf_addc(w->b, '}');
}

static void anthropic_add_source(struct writer *w, const json_t *image)
{
	strbuf_adds(w->b, ",\"source\":{\"type\":\"base64\"");
	add_member(w, "media_type", wire_field(image, "mimeType"));
	add_member(w, "data", wire_field(image, "data"));
	strbuf_addc(w->b, '}');
}

static void anthropic_add_user(struct writer *w, const json_t *m, bool last)
{
	json_t *images = json_object_get(m, "images"), *image;
	const char *text = wire_field(m, "text");
	size_t i;

	json_array_foreach(images, i, image)
	{
		if (!w->req->model->takes_images) {
			anthropic_add_text(w, "user", "[an image was left out: this model takes none]");
			continue;
		}
		anthropic_open_block(w, "user", "image");
		anthropic_add_source(w, image);
		strbuf_addc(w->b, '}');
	}
	anthropic_open_block(w, "user", "text");
	add_member(w, "text", text_is_blank(text) ? "(no text)" : text);
	strbuf_adds(w->b, last ? CACHE "}" : "}");
}

static void anthropic_add_call(struct writer *w, const json_t *call, size_t number)
{
	json_t *arguments = json_object_get(call, "arguments");
	char id[WIRE_ID_LEN];

	wire_call_id(number, id);
	anthropic_open_block(w, "assistant", "tool_use");
	add_member(w, "id", id);
	strbuf_adds(w->b, ",\"name\":");
	wire_call_name(w->b, wire_field(call, "name"));
	strbuf_adds(w->b, ",\"input\":");
	if (json_is_object(arguments))
		wire_value(w->b, arguments);
	else
		strbuf_adds(w->b, "{}");
	strbuf_addc(w->b, '}');
}

/* The blocks of the answer in its own order, or NULL if they do not fit what is told of it, or are another provider's:
 * a server refuses signatures that it did not make. */
static const json_t *native_blocks(const struct writer *w, const json_t *m)
{
	const json_t *native = json_object_get(m, "native"), *blocks = json_object_get(native, "blocks");
	size_t i, calls = 0;
	json_t *block;

	if (!w->thinking || strcmp(wire_field(native, "provider"), w->p->name) != 0)
		return NULL;
	json_array_foreach((json_t *)blocks, i, block)
	{
		calls += strcmp(wire_field(block, "type"), "tool_use") == 0;
	}
	return calls == json_array_size(json_object_get(m, "toolCalls")) ? blocks : NULL;
}

static void add_native(struct writer *w, const json_t *m, const json_t *blocks, size_t first_call)
{
	size_t i, n = 0;
	json_t *block;

	json_array_foreach((json_t *)blocks, i, block)
	{
		const char *type = wire_field(block, "type");

		if (strcmp(type, "tool_use") == 0) {
			anthropic_add_call(w, json_array_get(json_object_get(m, "toolCalls"), n), first_call + n);
			n++;
		} else if (strcmp(type, "text") == 0) {
			anthropic_add_text(w, "assistant", wire_field(block, "text"));
		} else if (strcmp(type, "thinking") == 0) {
			anthropic_open_block(w, "assistant", "thinking");
			add_member(w, "thinking", wire_field(block, "thinking"));
			add_member(w, "signature", wire_field(block, "signature"));
			strbuf_addc(w->b, '}');
		} else if (strcmp(type, "redacted_thinking") == 0) {
			anthropic_open_block(w, "assistant", "redacted_thinking");
			add_member(w, "data", wire_field(block, "data"));
			strbuf_addc(w->b, '}');
		}
	}
}

static void anthropic_add_assistant(struct writer *w, const json_t *m, size_t first_call)
{
	const json_t *blocks = native_blocks(w, m);
	size_t i;
	json_t *call;

	if (blocks != NULL) {
		add_native(w, m, blocks, first_call);
		return;
	}
	anthropic_add_text(w, "assistant", wire_field(m, "text"));
	json_array_foreach(json_object_get(m, "toolCalls"), i, call)
	{
		anthropic_add_call(w, call, first_call + i);
	}
}

/* A result with images is a list of blocks; a text among them must not be blank. */
static void anthropic_add_seen(struct writer *w, const json_t *m)
{
	const char *text = wire_field(m, "text");
	size_t i;
	json_t *image;

	strbuf_adds(w->b, ",\"content\":[{\"type\":\"text\"");
	add_member(w, "text", text_is_blank(text) ? wire_field(m, "outcome") : text);
	strbuf_addc(w->b, '}');
	json_array_foreach(json_object_get(m, "images"), i, image)
	{
		strbuf_adds(w->b, ",{\"type\":\"image\"");
		anthropic_add_source(w, image);
		strbuf_addc(w->b, '}');
	}
	strbuf_addc(w->b, ']');
}

static void anthropic_add_result(struct writer *w, const json_t *m, size_t number, bool last)
{
	const char *text = wire_field(m, "text");
	char id[WIRE_ID_LEN];

	wire_call_id(number, id);
	anthropic_open_block(w, "user", "tool_result");
	add_member(w, "tool_use_id", id);
	if (w->req->model->takes_images && json_array_size(json_object_get(m, "images")) > 0)
		anthropic_add_seen(w, m);
	else
		add_member(w, "content", text[0] != '\0' ? text : wire_field(m, "outcome"));
	if (strcmp(wire_field(m, "outcome"), "success") != 0)
		strbuf_adds(w->b, ",\"is_error\":true");
	strbuf_adds(w->b, last ? CACHE "}" : "}");
}

static void anthropic_add_messages(struct writer *w)
{
	const json_t *conversation = w->req->conversation, *assistant = NULL;
	size_t i, first_call = 0, next_call = 0, n = json_array_size(conversation);
	json_t *m;

	strbuf_adds(w->b, ",\"messages\":[");
	json_array_foreach((json_t *)conversation, i, m)
	{
		const char *role = wire_field(m, "role");

		if (strcmp(role, "user") == 0) {
			anthropic_add_user(w, m, i + 1 == n);
		} else if (strcmp(role, "assistant") == 0) {
			assistant = m;
			first_call = next_call;
			next_call += json_array_size(json_object_get(m, "toolCalls"));
			anthropic_add_assistant(w, m, first_call);
		} else {
			size_t number = wire_call_number(assistant, first_call, m);

			if (number != WIRE_NO_CALL)
				anthropic_add_result(w, m, number, i + 1 == n);
		}
	}
	strbuf_adds(w->b, w->role != NULL ? "]}]" : "]");
}

static void anthropic_add_tools(struct strbuf *b, const json_t *tools)
{
	size_t i;
	json_t *tool;

	if (json_array_size(tools) == 0)
		return;
	strbuf_adds(b, ",\"tools\":[");
	json_array_foreach((json_t *)tools, i, tool)
	{
		strbuf_adds(b, i > 0 ? ",{" : "{");
		wire_tool(b, tool, "input_schema");
		strbuf_adds(b, i + 1 == json_array_size(tools) ? CACHE "}" : "}");
	}
	strbuf_addc(b, ']');
}

/* `thinking_budget` is ours: 0 switches thinking off, else the limit of output grows by it. Says whether the model will
 * think. */
static bool settle_head(const struct model_request *req, json_t *head)
{
	int64_t max = req->model->upstream->max_output_tokens;
	int64_t budget = json_integer_value(json_object_get(head, "thinking_budget"));
	const char *type;

	json_object_del(head, "thinking_budget");
	if (budget > 0)
		json_put_new(
		    head, "thinking", json_pack("{s:s, s:I}", "type", "enabled", "budget_tokens", (json_int_t)budget));
	if (json_object_get(head, "max_tokens") == NULL)
		json_put_int(head, "max_tokens", (max > 0 ? max : DEFAULT_MAX_TOKENS) + MAX(budget, 0));
	type = wire_field(json_object_get(head, "thinking"), "type");
	return type[0] != '\0' && strcmp(type, "disabled") != 0;
}

int anthropic_write_request(const struct remote *p, const struct model_request *req, struct strbuf *b)
{
	AUTO_JSON head = wire_head(req);
	struct writer w = {.b = b, .p = p, .req = req, .thinking = settle_head(req, head)};

	strbuf_addc(b, '{');
	wire_members(b, head);
	strbuf_adds(b, ",\"stream\":true");
	anthropic_add_tools(b, req->tools);
	if (req->system != NULL && !text_is_blank(req->system)) {
		strbuf_adds(b, ",\"system\":[{\"type\":\"text\",\"text\":");
		wire_foreign(b, req->system);
		strbuf_adds(b, CACHE "}]");
	}
	if (!b->overflowed)
		anthropic_add_messages(&w);
	strbuf_addc(b, '}');
	return b->overflowed ? ERR_TOO_LARGE : OK;
}
