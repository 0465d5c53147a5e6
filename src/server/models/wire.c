/* Helpers of both wire formats for writing a request. */
#include "base/mem.h"
#include "base/text.h"
#include "server/models/wire_priv.h"
#include <string.h>

void wire_foreign(struct strbuf *b, const char *s)
{
	size_t len = strlen(s);
	AUTO_STR clean = text_is_utf8(s, len) ? NULL : text_to_utf8(s, len);

	json_add_string(b, clean != NULL ? clean : s);
}

static int add_piece(const char *bytes, size_t len, void *b)
{
	return strbuf_add(b, bytes, len) == OK ? 0 : -1;
}

void wire_value(struct strbuf *b, const json_t *v)
{
	/* A failure is an overflow, which the buffer remembers. */
	json_dump_callback(v, add_piece, b, JSON_COMPACT | JSON_ENCODE_ANY);
}

void wire_members(struct strbuf *b, const json_t *head)
{
	const char *key;
	json_t *v;
	bool first = true;

	json_object_foreach((json_t *)head, key, v)
	{
		if (!first)
			strbuf_addc(b, ',');
		first = false;
		json_add_string(b, key);
		strbuf_addc(b, ':');
		wire_value(b, v);
	}
}

/* "reasoning.effort": the objects on the way are made if they are missing. */
static void set_path(json_t *o, const char *path, json_t *value)
{
	const char *dot;

	while ((dot = strchr(path, '.')) != NULL) {
		AUTO_STR key = str_ndup(path, (size_t)(dot - path));
		json_t *inner = json_object_get(o, key);

		if (!json_is_object(inner)) {
			inner = json_object();
			json_put_new(o, key, inner);
		}
		o = inner;
		path = dot + 1;
	}
	json_put_new(o, path, json_incref(value));
}

static const char *chosen_value(const json_t *params, const char *id)
{
	size_t i;
	json_t *p;

	json_array_foreach((json_t *)params, i, p)
	{
		const char *name = json_string_value(json_object_get(p, "id"));

		if (name != NULL && strcmp(name, id) == 0)
			return json_string_value(json_object_get(p, "value"));
	}
	return NULL;
}

json_t *wire_head(const struct model_request *req)
{
	const struct upstream *u = req->model->upstream;
	json_t *head = json_object(), *parameters = json_deep_copy(u->parameters), *option;
	size_t i;

	json_put(head, "model", u->name);
	json_object_update(head, parameters);
	json_decref(parameters);
	json_array_foreach(u->options, i, option)
	{
		json_t *values = json_object_get(option, "values");
		const char *id = json_string_value(json_object_get(option, "id"));
		const char *text = chosen_value(req->params, id);
		json_t *value = text != NULL ? json_object_get(values, text) : NULL;

		/* A run may be older than the settings. */
		if (value == NULL)
			value = json_object_get(values, json_string_value(json_object_get(option, "default")));
		set_path(head, json_string_value(json_object_get(option, "field")), value);
	}
	return head;
}

const char *wire_field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s != NULL ? s : "";
}

void wire_tool(struct strbuf *b, const json_t *tool, const char *schema_key)
{
	const json_t *parameters = json_object_get(tool, "parameters");

	strbuf_adds(b, "\"name\":");
	json_add_string(b, wire_field(tool, "name"));
	strbuf_adds(b, ",\"description\":");
	json_add_string(b, wire_field(tool, "description"));
	strbuf_addf(b, ",\"%s\":", schema_key);
	if (json_is_object(parameters))
		wire_value(b, parameters);
	else
		strbuf_adds(b, "{\"type\":\"object\",\"properties\":{}}");
}

/* Models also call tools that there are not, by any name; servers refuse the whole conversation for one. */
void wire_call_name(struct strbuf *b, const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-";
	char out[WIRE_NAME_MAX + 1];
	size_t n = 0;

	for (; name[n] != '\0' && n < WIRE_NAME_MAX; n++)
		out[n] = strchr(allowed, name[n]) != NULL ? name[n] : '_';
	out[n] = '\0';
	json_add_string(b, n > 0 ? out : "unnamed");
}

void wire_call_id(size_t number, char out[WIRE_ID_LEN])
{
	snprintf(out, WIRE_ID_LEN, "c%08zu", number % 100000000);
}

size_t wire_call_number(const json_t *assistant, size_t first, const json_t *result)
{
	const char *id = json_string_value(json_object_get(result, "callId"));
	size_t i;
	json_t *call;

	json_array_foreach(json_object_get(assistant, "toolCalls"), i, call)
	{
		const char *own = json_string_value(json_object_get(call, "id"));

		if (own != NULL && id != NULL && strcmp(own, id) == 0)
			return first + i;
	}
	return WIRE_NO_CALL;
}
