#include "mcp/result.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/tools.h"
#include <string.h>

#define BLOCKS_MAX 1000
#define URI_MAX 500

struct reading {
	const struct mcp_keeper *keeper;
	json_t *content;
	struct strbuf text; /* for the model */
	json_t *seen; /* where in `content` the images for the model are */
	size_t image_max, images;
};

static void add_text(struct reading *r, const char *s, bool to_model)
{
	json_t *inner = json_object();

	json_put(inner, "text", s);
	json_array_append_new(r->content, json_pack("{s:o}", "text", inner));
	if (!to_model)
		return;
	if (r->text.len > 0)
		strbuf_addc(&r->text, '\n');
	strbuf_adds(&r->text, s);
}

static void add_note(struct reading *r, bool to_model, const char *fmt, ...) PRINTF_LIKE(3, 4);
static void add_note(struct reading *r, bool to_model, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	AUTO_STR s = str_vprintf(fmt, ap);
	va_end(ap);
	add_text(r, s, to_model);
}

static void add_image(struct reading *r, const json_t *block, bool to_model)
{
	const char *data = json_word(block, "data");
	AUTO_STR type = text_line(json_word(block, "mimeType"), 100);
	size_t len = strlen(data);

	if (len == 0 || len > r->image_max - r->images) {
		add_note(
		    r, to_model, "[an image of type %s and about %zu bytes, not shown: too large]", type, len / 4 * 3);
		return;
	}
	r->images += len;
	if (to_model) {
		json_array_append_new(r->seen, json_integer((json_int_t)json_array_size(r->content)));
		if (r->text.len > 0)
			strbuf_addc(&r->text, '\n');
		strbuf_addf(&r->text, "[an image of type %s and about %zu bytes]", type, len / 4 * 3);
	}
	json_array_append_new(r->content, json_pack("{s:{s:s, s:s}}", "image", "mimeType", type, "data", data));
}

static void add_link(struct reading *r, const json_t *block, bool to_model)
{
	AUTO_STR uri = text_line(json_word(block, "uri"), URI_MAX);
	AUTO_STR name = text_line(json_word(block, "name"), 200);
	AUTO_STR about = text_line(json_word(block, "description"), 500);
	AUTO_STR type = text_line(json_word(block, "mimeType"), 100);

	add_note(r, to_model, "[link to %s: %s%s%s%s%s]", name, uri, type[0] != '\0' ? ", " : "", type,
	    about[0] != '\0' ? ": " : "", about);
}

/* ", saved as PLACE", or what is said of bytes that are nowhere. malloc'ed. */
static char *keep(struct reading *r, const char *data, const char *type, const char *uri, const char *otherwise)
{
	AUTO_STR place = r->keeper != NULL && data[0] != '\0' ? r->keeper->keep(r->keeper->ctx, data, type, uri) : NULL;

	return place != NULL ? str_printf("saved as %s", place) : str_dup(otherwise);
}

static void add_audio(struct reading *r, const json_t *block, bool to_model)
{
	const char *data = json_word(block, "data");
	AUTO_STR type = text_line(json_word(block, "mimeType"), 100);
	AUTO_STR fate = keep(r, data, type, "", "not played");

	add_note(r, to_model, "[audio of type %s and about %zu bytes, %s]", type, strlen(data) / 4 * 3, fate);
}

static void add_blob(struct reading *r, const char *data, const char *type, const char *uri, bool to_model)
{
	AUTO_STR fate = keep(r, data, type, uri, "not shown");

	add_note(
	    r, to_model, "[resource %s of type %s and about %zu bytes, %s]", uri, type, strlen(data) / 4 * 3, fate);
}

static void add_resource(struct reading *r, const json_t *block, bool to_model)
{
	const json_t *resource = json_object_get(block, "resource");
	AUTO_STR uri = text_line(json_word(resource, "uri"), URI_MAX);
	AUTO_STR type = text_line(json_word(resource, "mimeType"), 100);

	if (json_is_string(json_object_get(resource, "text")))
		add_note(r, to_model, "[resource %s]\n%s", uri, json_word(resource, "text"));
	else
		add_blob(r, json_word(resource, "blob"), type, uri, to_model);
}

/* A block for the user alone is not for the model. */
static bool is_for_model(const json_t *block)
{
	const json_t *audience = json_object_get(json_object_get(block, "annotations"), "audience"), *who;
	size_t i;

	if (json_array_size(audience) == 0)
		return true;
	json_array_foreach((json_t *)audience, i, who)
	{
		if (json_is_string(who) && strcmp(json_string_value(who), "assistant") == 0)
			return true;
	}
	return false;
}

static void add_block(struct reading *r, const json_t *block)
{
	const char *type = json_word(block, "type");
	bool to_model = is_for_model(block);

	if (strcmp(type, "text") == 0) {
		add_text(r, json_word(block, "text"), to_model);
	} else if (strcmp(type, "image") == 0) {
		add_image(r, block, to_model);
	} else if (strcmp(type, "audio") == 0) {
		add_audio(r, block, to_model);
	} else if (strcmp(type, "resource_link") == 0) {
		add_link(r, block, to_model);
	} else if (strcmp(type, "resource") == 0) {
		add_resource(r, block, to_model);
	} else {
		AUTO_STR word = text_line(type, 60);
		add_note(r, to_model, "[a block of the unknown type '%s', not shown]", word);
	}
}

static void check_output(struct mcp_outcome *o, const json_t *structured, const json_t *tool)
{
	const json_t *schema = json_object_get(tool, "outputSchema");
	struct why why;

	if (schema == NULL || o->failed)
		return;
	if (structured == NULL)
		o->warning = str_dup("the result has no structuredContent, which its outputSchema promises");
	else if (mcp_arguments_check(schema, structured, &why) != OK)
		o->warning = str_printf("structuredContent does not fit the outputSchema: %s", why.text);
}

void mcp_outcome_from(const json_t *result, const json_t *tool, size_t image_max, const struct mcp_keeper *keeper,
    struct mcp_outcome *ret)
{
	struct reading r = {.keeper = keeper,
	    .content = json_array(),
	    .seen = json_array(),
	    .text = STRBUF(MCP_RESULT_MAX),
	    .image_max = image_max};
	const json_t *blocks = json_object_get(result, "content"), *block;
	json_t *structured = json_object_get(result, "structuredContent");
	AUTO_STR whole = NULL;
	size_t i;

	*ret = (struct mcp_outcome){.failed = json_is_true(json_object_get(result, "isError"))};
	if (json_dumpb(result, NULL, 0, JSON_COMPACT) > MCP_RESULT_MAX) {
		add_note(&r, true, "[the result of the tool is larger than 10 MiB and was thrown away]");
		ret->failed = true;
		blocks = structured = NULL;
	}
	json_array_foreach((json_t *)blocks, i, block)
	{
		if (i == BLOCKS_MAX) {
			add_note(&r, true, "[%zu further blocks are left out]", json_array_size(blocks) - i);
			break;
		}
		add_block(&r, block);
	}
	if (!json_is_object(structured))
		structured = NULL;
	if (structured != NULL && json_array_size(blocks) == 0) {
		AUTO_STR text = json_text(structured);
		add_text(&r, text, true);
	}
	check_output(ret, structured, tool);
	whole = strbuf_take(&r.text);
	ret->text = text_cut_middle(whole, strlen(whole), MCP_TEXT_MAX, NULL);
	ret->result = json_pack("{s:o, s:b}", "content", r.content, "isError", ret->failed);
	if (structured != NULL)
		json_object_set(ret->result, "structuredContent", structured);
	if (json_array_size(r.seen) > 0)
		json_object_set(ret->result, MCP_SEEN_IMAGES, r.seen);
	json_decref(r.seen);
}

char *mcp_output_text(const json_t *output)
{
	const json_t *content = json_object_get(output, "content"), *block;
	struct strbuf b = STRBUF(MCP_RESULT_MAX);
	AUTO_STR text = NULL;
	size_t i;

	json_array_foreach((json_t *)content, i, block)
	{
		const char *said = json_string_value(json_object_get(block, "text"));

		if (said != NULL)
			strbuf_addf(&b, "%s%s", b.len > 0 ? "\n" : "", said);
	}
	if (b.len > 0) {
		text = strbuf_take(&b);
	} else {
		strbuf_fini(&b);
		text = json_text(output);
	}
	return text_cut_middle(text, strlen(text), MCP_TEXT_MAX, NULL);
}

char *mcp_error_text(const json_t *error)
{
	AUTO_STR said = text_line(json_string_value(json_object_get(error, "message")), 2000);
	long long code = (long long)json_integer_value(json_object_get(error, "code"));
	const json_t *first = json_array_get(json_object_get(json_object_get(error, "data"), "elicitations"), 0);

	if (code == -32042) {
		const char *url = json_word(first, "url"), *host = strstr(url, "://");
		size_t len = host != NULL ? strcspn(host + 3, "/?#") : 0;
		AUTO_STR place = str_ndup(host != NULL ? host + 3 : "", MIN(len, (size_t)200));
		AUTO_STR line = text_line(place, 200);
		return str_printf(
		    "The MCP server needs the authorisation of a person first%s%s: %s (-32042). You cannot "
		    "give it; tell the user.",
		    line[0] != '\0' ? ", at " : "", line, said);
	}
	return str_printf("The MCP server answered with an error: %s (%lld)", said, code);
}

void mcp_outcome_fini(struct mcp_outcome *o)
{
	json_drop(&o->result);
	str_free(&o->text);
	str_free(&o->warning);
}
