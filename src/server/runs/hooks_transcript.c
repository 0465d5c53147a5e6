/* The conversation as hooks can read it on the worker: what is new goes with the calls that hooks stand around, until
 * one of them has ended. Without a hook nothing is made. */
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/hooks.h"
#include <string.h>

#define NEWS_MAX ((size_t)256 * 1024) /* of one call; at least one message */
#define TEXT_MAX ((size_t)64 * 1024) /* of one text or one input */
#define PENDING_MAX 10000

static bool has_hooks(const struct loop *l)
{
	return json_array_size(json_object_get(l->run->session_info, "hookEvents")) > 0;
}

static void add_text(json_t *content, const char *text)
{
	AUTO_STR cut = NULL;

	if (text == NULL || text_is_blank(text))
		return;
	cut = text_cut_middle(text, strlen(text), TEXT_MAX, NULL);
	json_array_append_new(content, json_pack("{s:s, s:s}", "type", "text", "text", cut));
}

static void add_call(json_t *content, const json_t *call)
{
	json_t *input = json_object_get(call, "arguments");
	json_t *part = json_pack("{s:s}", "type", "tool_use");

	json_put(part, "id", hooks_word(call, "id"));
	json_put(part, "name", hooks_word(call, "name"));
	if (json_dumpb(input, NULL, 0, JSON_COMPACT) <= TEXT_MAX) {
		json_put_new(part, "input", input != NULL ? json_incref(input) : json_object());
	} else {
		AUTO_STR text = json_text(input);
		AUTO_STR cut = text_cut_middle(text, strlen(text), TEXT_MAX, NULL);

		json_put(part, "input", cut);
	}
	json_array_append_new(content, part);
}

/* NULL: it is not shown. Results of tools are not, as hooks get them by postToolUse; nor what nobody said. */
static json_t *line_of(const struct loop *l, const json_t *message)
{
	const char *role = hooks_word(message, "role");
	json_t *content, *call, *line;
	size_t i;

	if (role == NULL || strcmp(role, "tool") == 0 || json_is_true(json_object_get(message, "reminder")))
		return NULL;
	content = json_array();
	add_text(content, hooks_word(message, "text"));
	json_array_foreach(json_object_get(message, "toolCalls"), i, call) add_call(content, call);
	line = json_pack("{s:s, s:{s:o}}", "role", role, "message", "content", content);
	redact_json(l->run->redactor, &line);
	return line;
}

/* Of the run's own conversation the worker has some from earlier runs, and says how much. */
static void begin(struct loop *l)
{
	const json_t *next = json_object_get(l->run->session_info, "transcriptNext");

	l->untold = json_array();
	if (l->depth == 0 && json_is_integer(next))
		l->told = (size_t)MAX(json_integer_value(next), 0);
}

void hooks_note_messages(struct loop *l, const json_t *messages, size_t first)
{
	json_t *message;
	size_t i;

	if (!has_hooks(l))
		return;
	if (l->untold == NULL)
		begin(l);
	json_array_foreach((json_t *)(uintptr_t)messages, i, message)
	{
		json_t *line;

		if (first + i < l->noted)
			continue;
		l->noted = first + i + 1;
		if (first + i < l->told || json_array_size(l->untold) >= PENDING_MAX)
			continue;
		line = line_of(l, message);
		if (line != NULL)
			json_array_append_new(
			    l->untold, json_pack("{s:I, s:o}", "at", (json_int_t)(first + i), "line", line));
	}
}

json_t *hooks_news(const struct loop *l, size_t *ret_upto)
{
	json_t *lines, *item;
	size_t i, bytes = 0, upto = l->noted;

	*ret_upto = 0;
	if (l->untold == NULL || l->noted <= l->told)
		return NULL;
	lines = json_array();
	json_array_foreach(l->untold, i, item)
	{
		bytes += json_dumpb(item, NULL, 0, JSON_COMPACT);
		if (i > 0 && bytes > NEWS_MAX) {
			upto = (size_t)json_integer_value(json_object_get(item, "at"));
			break;
		}
		json_array_append(lines, item);
	}
	*ret_upto = upto;
	return json_pack("{s:I, s:I, s:o}", "from", (json_int_t)l->told, "upto", (json_int_t)upto, "lines", lines);
}

void hooks_told(struct loop *l, size_t upto)
{
	if (l->untold == NULL || upto <= l->told)
		return;
	l->told = upto;
	while (json_array_size(l->untold) > 0 &&
	       (size_t)json_integer_value(json_object_get(json_array_get(l->untold, 0), "at")) < upto)
		json_array_remove(l->untold, 0);
}
