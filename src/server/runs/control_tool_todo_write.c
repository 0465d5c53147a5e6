/* The tool `todo_write`: the model's list of what is to be done. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/control_tool.h"
#include "server/runs/todos.h"
#include <string.h>
#include <strings.h>

#define ID_MAX 64
#define CONTENT_MAX 2048
#define LIST_MAX ((size_t)TODOS_MAX * (CONTENT_MAX + 64))

/* Ours, and as the client library has it. Clients have shipped TODO_STATUS_IN_PROGRESS and the like, too. */
static const struct {
	const char *word, *sdk;
} statuses[] = {
    {"pending", "pending"}, {"in_progress", "inProgress"}, {"completed", "completed"}, {"cancelled", "cancelled"}};

/* The index of a status; -1: it is none. */
static int status_index(const char *word)
{
	static const char prefix[] = "TODO_STATUS_";

	if (strncasecmp(word, prefix, sizeof prefix - 1) == 0)
		word += sizeof prefix - 1;
	for (int i = 0; i < (int)ARRAY_LEN(statuses); i++)
		if (strcasecmp(word, statuses[i].word) == 0 || strcmp(word, statuses[i].sdk) == 0)
			return i;
	return -1;
}

/* What the client library takes: content and status, nothing else. */
static json_t *as_sdk(const json_t *todos)
{
	json_t *out = json_array(), *item;
	size_t i;

	json_array_foreach((json_t *)todos, i, item)
	{
		int status = status_index(json_word(item, "status"));

		json_array_append_new(out, json_pack("{s:s, s:s}", "content", json_word(item, "content"), "status",
					       statuses[status < 0 ? 0 : status].sdk));
	}
	return out;
}

static json_t *find_todo(json_t *list, const char *id)
{
	size_t i;
	json_t *item;

	json_array_foreach(list, i, item)
	{
		if (strcmp(json_word(item, "id"), id) == 0)
			return item;
	}
	return NULL;
}

/* One entry into `list`: a new one, or news of one that is there. Models leave out what has not changed. */
static int take_todo(json_t *list, const json_t *given, size_t i, bool merge, struct why *why)
{
	const char *content = json_string_value(json_object_get(given, "content")), *word = json_word(given, "status");
	AUTO_STR number = str_printf("%zu", i + 1);
	const char *id = json_word(given, "id");
	json_t *old;
	int status = word[0] != '\0' ? status_index(word) : 0;

	if (id[0] == '\0')
		id = number;
	old = find_todo(list, id);
	if (!json_is_object(given))
		return why_set(why, ERR_INVALID, "'todos[%zu]' must be an object {id, content, status}", i);
	if (status < 0)
		return why_set(why, ERR_INVALID,
		    "'todos[%zu].status' must be pending, in_progress, completed or cancelled, not '%.40s'", i, word);
	if (strlen(id) > ID_MAX)
		return why_set(why, ERR_INVALID, "'todos[%zu].id' must be at most %d bytes", i, ID_MAX);
	if (old != NULL && !merge)
		return why_set(why, ERR_INVALID, "'todos[%zu].id' '%.64s' stands there twice", i, id);
	if ((content == NULL || text_is_blank(content)) && old == NULL)
		return why_set(why, ERR_INVALID, "'todos[%zu].content' must be a text", i);
	if (content != NULL && strlen(content) > CONTENT_MAX)
		return why_set(why, ERR_INVALID, "'todos[%zu].content' must be at most %d bytes", i, CONTENT_MAX);
	if (old == NULL) {
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:s}", "id", id, "content", content, "status", statuses[status].word));
		return json_array_size(list) > TODOS_MAX
			   ? why_set(why, ERR_INVALID, "a list has at most %d todos", TODOS_MAX)
			   : OK;
	}
	if (content != NULL && !text_is_blank(content))
		json_put(old, "content", content);
	if (word[0] != '\0')
		json_put(old, "status", statuses[status].word);
	return OK;
}

static char *describe(const json_t *todos, bool only_open)
{
	struct strbuf b = STRBUF(LIST_MAX);
	size_t i;
	json_t *item;

	json_array_foreach((json_t *)todos, i, item)
	{
		const char *status = json_word(item, "status");

		if (!only_open || strcmp(status, "pending") == 0 || strcmp(status, "in_progress") == 0)
			strbuf_addf(&b, "%s[%s] %s: %s", b.len > 0 ? "\n" : "", status, json_word(item, "id"),
			    json_word(item, "content"));
	}
	return strbuf_take(&b);
}

char *todos_open_text(const json_t *todos)
{
	AUTO_STR text = describe(todos, true);

	return text[0] != '\0' ? TAKE(text) : NULL;
}

/* Of the conversation, so of earlier runs, too. A row that is damaged is no list. */
int todos_load(struct tx *tx, const char *loop_id, json_t **ret)
{
	AUTO_STR text = NULL;
	AUTO_JSON result = NULL;
	json_t *todos;
	int rc = tx_query_text(tx, &text,
	    "SELECT c.result FROM tool_calls c JOIN loops l ON l.id = c.loop_id WHERE l.conversation_id = (SELECT "
	    "conversation_id FROM loops WHERE id = $1) AND c.name = '" TODO_TOOL "' AND c.outcome = 'success' ORDER BY"
	    " l.seq DESC, c.step DESC, c.idx DESC LIMIT 1",
	    "s", loop_id);

	if (rc != OK && rc != ERR_EMPTY)
		return rc;
	if (rc == OK && text != NULL)
		IGNORE(json_parse(text, strlen(text), &result, NULL));
	todos = json_object_get(result, "todos");
	*ret = json_is_array(todos) ? json_incref(todos) : json_array();
	return OK;
}

static int begin_list(struct control_call *c, bool merge, json_t **ret)
{
	AUTO(tx) tx = NULL;
	int rc = OK;

	if (!merge) {
		*ret = json_array();
		return OK;
	}
	rc = tx_begin(c->store, TX_READ, &tx);
	return rc == OK ? todos_load(tx, c->loop_id, ret) : rc;
}

static void todo_write_run(struct control_call *c)
{
	const json_t *given = json_object_get(c->args, "todos"), *merge = json_object_get(c->args, "merge");
	AUTO_JSON list = NULL;
	AUTO_STR text = NULL;
	struct why why = {0};
	size_t i;
	json_t *item;
	int rc;

	if (!json_is_array(given) || (merge != NULL && !json_is_boolean(merge) && !json_is_null(merge))) {
		control_call_fail(c, "invalid_arguments", TODO_TOOL ": %s",
		    json_is_array(given) ? "'merge' must be true or false"
					 : "'todos' must be a list of {id, content, status}");
		return;
	}
	rc = begin_list(c, json_is_true(merge), &list);
	if (rc != OK) {
		control_call_fail(c, "unavailable", TODO_TOOL ": the list cannot be read now; try again");
		return;
	}
	json_array_foreach((json_t *)given, i, item)
	{
		if (take_todo(list, item, i, json_is_true(merge), &why) != OK) {
			control_call_fail(c, "invalid_arguments", TODO_TOOL ": %s", why.text);
			return;
		}
	}
	text = describe(list, false);
	c->sdk = json_pack("{s:o, s:I}", "todos", as_sdk(list), "totalCount", (json_int_t)json_array_size(list));
	control_call_succeed(c, json_pack("{s:O, s:I}", "todos", list, "totalCount", (json_int_t)json_array_size(list)),
	    text[0] != '\0' ? text : "The list is empty.");
}

static void todo_write_sdk_args(json_t *args)
{
	json_t *given = json_object_get(args, "todos");

	json_put_new(args, "todos", as_sdk(json_is_array(given) ? given : NULL));
	json_object_del(args, "merge");
}

static const struct control_tool todo_write = {
    .name = TODO_TOOL,
    .description = "Keeps your list of what is to be done, which the user sees. Use it for work of three steps and "
		   "more: write the "
		   "steps first, keep exactly one in_progress, and mark each completed as soon as it is. With "
		   "merge=true only what "
		   "you give changes (by id); without, your list replaces the one before. Answers with the whole list.",
    .parameters =
	"{\"type\":\"object\",\"required\":[\"todos\"],\"properties\":{\"todos\":{\"type\":\"array\",\"items\":{"
	"\"type\":\"object\",\"properties\":{\"id\":{\"type\":\"string\"},\"content\":{\"type\":\"string\"},\"status\":"
	"{"
	"\"type\":\"string\",\"enum\":[\"pending\",\"in_progress\",\"completed\",\"cancelled\"]}}}},\"merge\":{"
	"\"type\":"
	"\"boolean\"}}}",
    .class = "state",
    .sdk_type = "updateTodos",
    .aliases = "[\"TodoWrite\",\"update_todos\"]",
    .sdk_args = todo_write_sdk_args,
    .repeatable = true,
    .run = todo_write_run,
};
CONTROL_TOOL(todo_write);
