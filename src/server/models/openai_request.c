/* The body of POST /chat/completions. */
#include "base/mem.h"
#include "server/models/openai_priv.h"
#include <string.h>

static void add_image(struct strbuf *b, const json_t *image)
{
	strbuf_adds(b, "{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:");
	json_add_escaped(b, wire_field(image, "mimeType"));
	strbuf_adds(b, ";base64,");
	json_add_escaped(b, wire_field(image, "data"));
	strbuf_adds(b, "\"}}");
}

static void add_text_part(struct strbuf *b, const char *text)
{
	strbuf_adds(b, "{\"type\":\"text\",\"text\":");
	json_add_string(b, text);
	strbuf_addc(b, '}');
}

/* With images: the parts in the order in which they came. */
static void add_parts(struct strbuf *b, const json_t *users, bool takes_images)
{
	size_t i, k;
	json_t *m, *image;

	strbuf_addc(b, '[');
	json_array_foreach((json_t *)users, i, m)
	{
		if (i > 0)
			strbuf_addc(b, ',');
		add_text_part(b, wire_field(m, "text"));
		json_array_foreach(json_object_get(m, "images"), k, image)
		{
			strbuf_addc(b, ',');
			if (takes_images)
				add_image(b, image);
			else
				add_text_part(b, "[an image was left out: this model takes none]");
		}
	}
	strbuf_addc(b, ']');
}

static void add_texts(struct strbuf *b, const json_t *users)
{
	bool any = false;
	size_t i;
	json_t *m;

	strbuf_addc(b, '"');
	json_array_foreach((json_t *)users, i, m)
	{
		const char *text = wire_field(m, "text");

		if (any && text[0] != '\0')
			strbuf_adds(b, "\\n\\n");
		any = any || text[0] != '\0';
		json_add_escaped(b, text);
	}
	strbuf_addc(b, '"');
}

/* User messages that follow each other (a run between them failed) as one: many chat templates want roles to
 * alternate. Leaves `users` empty. */
static void add_users(struct strbuf *b, json_t *users, bool takes_images)
{
	bool images = false;
	size_t i;
	json_t *m;

	json_array_foreach(users, i, m) images = images || json_array_size(json_object_get(m, "images")) > 0;
	strbuf_adds(b, "{\"role\":\"user\",\"content\":");
	if (images)
		add_parts(b, users, takes_images);
	else
		add_texts(b, users);
	strbuf_addc(b, '}');
	json_array_clear(users);
}

/* Arguments travel as a string that holds JSON. */
static void openai_add_call(struct strbuf *b, const json_t *call, size_t number)
{
	json_t *arguments = json_object_get(call, "arguments");
	AUTO_STR text = arguments != NULL ? json_text(arguments) : str_dup("{}");
	char id[WIRE_ID_LEN];

	wire_call_id(number, id);
	strbuf_addf(b, "{\"id\":\"%s\",\"type\":\"function\",\"function\":{\"name\":", id);
	wire_call_name(b, wire_field(call, "name"));
	strbuf_adds(b, ",\"arguments\":");
	json_add_string(b, text);
	strbuf_adds(b, "}}");
}

/* DeepSeek and Kimi refuse a conversation whose calls come without what was thought before them; vLLM gives it to the
 * template. Each has its own word for it, and does not know the other's. */
static void add_thinking(const struct remote *p, struct strbuf *b, const json_t *m)
{
	static const char *const fields[] = {"reasoning_content", "reasoning"};
	const json_t *native = json_object_get(m, "native");

	if (!p->return_reasoning || json_array_size(json_object_get(m, "toolCalls")) == 0 ||
	    strcmp(wire_field(native, "provider"), p->name) != 0)
		return;
	for (size_t i = 0; i < ARRAY_LEN(fields); i++) {
		if (!json_is_string(json_object_get(native, fields[i])))
			continue;
		strbuf_addf(b, ",\"%s\":", fields[i]);
		json_add_string(b, wire_field(native, fields[i]));
	}
}

static void openai_add_assistant(const struct remote *p, struct strbuf *b, const json_t *m, size_t first_call)
{
	json_t *calls = json_object_get(m, "toolCalls"), *call;
	const char *text = wire_field(m, "text");
	size_t i;

	strbuf_adds(b, "{\"role\":\"assistant\",\"content\":");
	if (text[0] == '\0' && json_array_size(calls) > 0)
		strbuf_adds(b, "null");
	else
		json_add_string(b, text);
	add_thinking(p, b, m);
	json_array_foreach(calls, i, call)
	{
		strbuf_adds(b, i == 0 ? ",\"tool_calls\":[" : ",");
		openai_add_call(b, call, first_call + i);
	}
	strbuf_adds(b, json_array_size(calls) > 0 ? "]}" : "}");
}

/* The format has no mark for a failure and some servers take no empty content. */
static void openai_add_result(struct strbuf *b, const json_t *m, size_t number)
{
	const char *text = wire_field(m, "text");
	char id[WIRE_ID_LEN];

	wire_call_id(number, id);
	strbuf_addf(b, "{\"role\":\"tool\",\"tool_call_id\":\"%s\",\"content\":", id);
	json_add_string(b, text[0] != '\0' ? text : wire_field(m, "outcome"));
	strbuf_addc(b, '}');
}

/* Messages as they are written, with commas between them. */
struct messages {
	const struct remote *p;
	struct strbuf *b;
	const struct model_request *req;
	size_t start;
	json_t *users; /* not written yet */
	json_t *seen; /* the same: images of the results that are being written, as messages of a user */
};

static void separate(struct messages *w)
{
	if (w->b->len > w->start)
		strbuf_addc(w->b, ',');
}

static void flush_users(struct messages *w)
{
	if (json_array_size(w->users) == 0)
		return;
	separate(w);
	add_users(w->b, w->users, w->req->model->takes_images);
}

/* A result takes no images in this format: they come in a message of a user behind the results of the step. */
static void keep_images(struct messages *w, const json_t *m)
{
	const json_t *images = json_object_get(m, "images");
	AUTO_STR text = NULL;

	if (!w->req->model->takes_images || json_array_size(images) == 0)
		return;
	text = str_printf("[images of the result of %s]", wire_field(m, "name"));
	json_array_append_new(w->seen, json_pack("{s:s, s:s, s:O}", "role", "user", "text", text, "images", images));
}

/* The results are written. */
static void release_images(struct messages *w)
{
	json_array_extend(w->users, w->seen);
	json_array_clear(w->seen);
}

static void add_conversation(struct messages *w)
{
	const json_t *assistant = NULL;
	size_t i, first_call = 0, next_call = 0, number;
	json_t *m;

	json_array_foreach((json_t *)w->req->conversation, i, m)
	{
		const char *role = wire_field(m, "role");

		if (strcmp(role, "tool") != 0)
			release_images(w);
		if (strcmp(role, "user") == 0) {
			json_array_append(w->users, m);
		} else if (strcmp(role, "assistant") == 0) {
			assistant = m;
			first_call = next_call;
			next_call += json_array_size(json_object_get(m, "toolCalls"));
			flush_users(w);
			separate(w);
			openai_add_assistant(w->p, w->b, m, first_call);
		} else if ((number = wire_call_number(assistant, first_call, m)) != WIRE_NO_CALL) {
			flush_users(w);
			separate(w);
			openai_add_result(w->b, m, number);
			keep_images(w, m);
		}
	}
	release_images(w);
	flush_users(w);
}

static void openai_add_messages(const struct remote *p, struct strbuf *b, const struct model_request *req)
{
	AUTO_JSON users = json_array();
	AUTO_JSON seen = json_array();
	struct messages w = {.p = p, .b = b, .req = req, .users = users, .seen = seen};

	strbuf_adds(b, ",\"messages\":[");
	w.start = b->len;
	if (req->system != NULL && req->system[0] != '\0') {
		strbuf_adds(b, "{\"role\":\"system\",\"content\":");
		wire_foreign(b, req->system);
		strbuf_addc(b, '}');
	}
	add_conversation(&w);
	strbuf_addc(b, ']');
}

static void openai_add_tools(struct strbuf *b, const json_t *tools)
{
	size_t i;
	json_t *tool;

	if (json_array_size(tools) == 0)
		return;
	strbuf_adds(b, ",\"tools\":[");
	json_array_foreach((json_t *)tools, i, tool)
	{
		strbuf_adds(
		    b, i > 0 ? ",{\"type\":\"function\",\"function\":{" : "{\"type\":\"function\",\"function\":{");
		wire_tool(b, tool, "parameters");
		strbuf_adds(b, "}}");
	}
	strbuf_addc(b, ']');
}

int openai_write_request(const struct remote *p, const struct model_request *req, struct strbuf *b)
{
	AUTO_JSON head = wire_head(req);
	int64_t max = req->model->upstream->max_output_tokens;

	if (max > 0 && json_object_get(head, p->max_tokens_field) == NULL)
		json_put_int(head, p->max_tokens_field, max);
	strbuf_addc(b, '{');
	wire_members(b, head);
	openai_add_messages(p, b, req);
	openai_add_tools(b, req->tools);
	strbuf_adds(b, ",\"stream\":true");
	if (p->stream_usage)
		strbuf_adds(b, ",\"stream_options\":{\"include_usage\":true}");
	strbuf_addc(b, '}');
	return b->overflowed ? ERR_TOO_LARGE : OK;
}
