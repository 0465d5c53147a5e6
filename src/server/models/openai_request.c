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

static void add_user(struct strbuf *b, const json_t *m, bool takes_images)
{
	json_t *images = json_object_get(m, "images"), *image;
	size_t i;

	strbuf_adds(b, "{\"role\":\"user\",\"content\":");
	if (json_array_size(images) == 0) {
		json_add_string(b, wire_field(m, "text"));
		strbuf_addc(b, '}');
		return;
	}
	strbuf_adds(b, "[{\"type\":\"text\",\"text\":");
	json_add_string(b, wire_field(m, "text"));
	strbuf_addc(b, '}');
	json_array_foreach(images, i, image)
	{
		strbuf_addc(b, ',');
		if (takes_images)
			add_image(b, image);
		else
			strbuf_adds(
			    b, "{\"type\":\"text\",\"text\":\"[an image was left out: this model takes none]\"}");
	}
	strbuf_adds(b, "]}");
}

/* Arguments travel as a string that holds JSON. */
static void add_call(struct strbuf *b, const json_t *call, size_t number)
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

static void add_assistant(struct strbuf *b, const json_t *m, size_t first_call)
{
	json_t *calls = json_object_get(m, "toolCalls"), *call;
	const char *text = wire_field(m, "text");
	size_t i;

	strbuf_adds(b, "{\"role\":\"assistant\",\"content\":");
	if (text[0] == '\0' && json_array_size(calls) > 0)
		strbuf_adds(b, "null");
	else
		json_add_string(b, text);
	json_array_foreach(calls, i, call)
	{
		strbuf_adds(b, i == 0 ? ",\"tool_calls\":[" : ",");
		add_call(b, call, first_call + i);
	}
	strbuf_adds(b, json_array_size(calls) > 0 ? "]}" : "}");
}

/* The format has no mark for a failure and some servers take no empty content. */
static void add_result(struct strbuf *b, const json_t *m, size_t number)
{
	const char *text = wire_field(m, "text");
	char id[WIRE_ID_LEN];

	wire_call_id(number, id);
	strbuf_addf(b, "{\"role\":\"tool\",\"tool_call_id\":\"%s\",\"content\":", id);
	json_add_string(b, text[0] != '\0' ? text : wire_field(m, "outcome"));
	strbuf_addc(b, '}');
}

static void add_messages(struct strbuf *b, const struct model_request *req)
{
	const json_t *assistant = NULL;
	size_t i, first_call = 0, next_call = 0, start;
	json_t *m;

	strbuf_adds(b, ",\"messages\":[");
	start = b->len;
	if (req->system != NULL && req->system[0] != '\0') {
		strbuf_adds(b, "{\"role\":\"system\",\"content\":");
		wire_foreign(b, req->system);
		strbuf_addc(b, '}');
	}
	json_array_foreach((json_t *)req->conversation, i, m)
	{
		const char *role = wire_field(m, "role");
		size_t number = WIRE_NO_CALL;

		if (strcmp(role, "tool") == 0) {
			number = wire_call_number(assistant, first_call, m);
			if (number == WIRE_NO_CALL)
				continue;
		}
		if (b->len > start)
			strbuf_addc(b, ',');
		if (strcmp(role, "user") == 0) {
			add_user(b, m, req->model->takes_images);
		} else if (strcmp(role, "assistant") == 0) {
			assistant = m;
			first_call = next_call;
			next_call += json_array_size(json_object_get(m, "toolCalls"));
			add_assistant(b, m, first_call);
		} else {
			add_result(b, m, number);
		}
	}
	strbuf_addc(b, ']');
}

static void add_tools(struct strbuf *b, const json_t *tools)
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
	add_messages(b, req);
	add_tools(b, req->tools);
	strbuf_adds(b, ",\"stream\":true");
	if (p->stream_usage)
		strbuf_adds(b, ",\"stream_options\":{\"include_usage\":true}");
	strbuf_addc(b, '}');
	return b->overflowed ? ERR_TOO_LARGE : OK;
}
