#include "agent/tools/schema.h"
#include "agent/tools/tool.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define MAX_TOOLS 64
#define MAX_NAME_BYTES 64
/* The marker in the middle comes on top. */
#define MAX_MODEL_TEXT (32 * 1024 - 64)
#define MAX_ATTACHMENT (16 * 1024)

/* Ends of the section that TOOL() fills; absent in a program that links no tool. */
extern const struct tool *const __start_tool_table[] __attribute__((weak));
extern const struct tool *const __stop_tool_table[] __attribute__((weak));

/* Schemas are parsed with the first call: a worker that waits needs none. */
static pthread_once_t once = PTHREAD_ONCE_INIT, schemas_once = PTHREAD_ONCE_INIT;
static const struct tool *table[MAX_TOOLS];
static json_t *schemas[MAX_TOOLS];
static size_t n_tools;

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct tool *const *)a)->name, (*(const struct tool *const *)b)->name);
}

static void load(void)
{
	for (const struct tool *const *t = __start_tool_table; t != __stop_tool_table; t++) {
		ENSURE(n_tools < MAX_TOOLS);
		table[n_tools++] = *t;
	}
	qsort(table, n_tools, sizeof table[0], by_name);
}

static void load_schemas(void)
{
	for (size_t i = 0; i < n_tools; i++)
		ENSURE(json_parse(table[i]->parameters, strlen(table[i]->parameters), &schemas[i], NULL) == OK);
}

const struct tool *const *tools_all(size_t *ret_n)
{
	pthread_once(&once, load);
	*ret_n = n_tools;
	return table;
}

static bool answers_to(const struct tool *t, const char *name)
{
	if (strcasecmp(t->name, name) == 0)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(t->aliases) && t->aliases[i] != NULL; i++)
		if (strcasecmp(t->aliases[i], name) == 0)
			return true;
	return false;
}

static size_t index_of(const char *name)
{
	pthread_once(&once, load);
	for (size_t i = 0; i < n_tools; i++)
		if (answers_to(table[i], name))
			return i;
	return MAX_TOOLS;
}

const struct tool *tool_find(const char *name)
{
	size_t i = index_of(name);

	return i < MAX_TOOLS ? table[i] : NULL;
}

static json_t *aliases_of(const struct tool *t)
{
	json_t *list = json_array();

	for (size_t i = 0; i < ARRAY_LEN(t->aliases) && t->aliases[i] != NULL; i++)
		json_array_append_new(list, json_string(t->aliases[i]));
	return list;
}

static json_t *arg_aliases_of(const struct tool *t)
{
	json_t *map = json_object();

	for (const char *const *pair = t->arg_alias; pair != NULL && pair[0] != NULL; pair += 2)
		json_put(map, pair[0], pair[1]);
	return map;
}

static void describe(struct strbuf *b, const struct tool *t)
{
	AUTO_JSON o = json_object();
	AUTO_STR text = NULL;

	json_put(o, "name", t->name);
	json_put_new(o, "aliases", aliases_of(t));
	json_put_new(o, "argAliases", arg_aliases_of(t));
	json_put(o, "description", t->description);
	json_put(o, "class", t->class == TOOL_READ ? "read" : "mutating");
	json_put(o, "sdkType", t->sdk_type);
	text = json_text(o);
	strbuf_add(b, text, strlen(text) - 1);
	strbuf_addf(b, ",\"parameters\":%s}", t->parameters);
}

char *tools_describe(void)
{
	struct strbuf b = STRBUF(1024 * 1024);

	pthread_once(&once, load);
	for (size_t i = 0; i < n_tools; i++) {
		strbuf_addc(&b, i == 0 ? '[' : ',');
		describe(&b, table[i]);
	}
	strbuf_adds(&b, n_tools == 0 ? "[]" : "]");
	ENSURE(!b.overflowed);
	return strbuf_take(&b);
}

/* Levenshtein, without regard to case. */
static size_t distance(const char *a, const char *b)
{
	size_t row[MAX_NAME_BYTES + 1], n = strlen(b);

	for (size_t j = 0; j <= n; j++)
		row[j] = j;
	for (size_t i = 0; a[i] != '\0'; i++) {
		size_t diagonal = row[0];

		row[0] = i + 1;
		for (size_t j = 0; j < n; j++) {
			size_t change = diagonal + (tolower((unsigned char)a[i]) != tolower((unsigned char)b[j]));

			diagonal = row[j + 1];
			row[j + 1] = MIN(change, MIN(row[j], row[j + 1]) + 1);
		}
	}
	return row[n];
}

static bool is_near(const struct tool *t, const char *name)
{
	size_t allowed = MAX(strlen(name) / 3, 2);

	if (strcasestr(t->name, name) != NULL || strcasestr(name, t->name) != NULL ||
	    distance(t->name, name) <= allowed)
		return true;
	for (size_t i = 0; i < ARRAY_LEN(t->aliases) && t->aliases[i] != NULL; i++)
		if (distance(t->aliases[i], name) <= allowed)
			return true;
	return false;
}

static void refuse_unknown(struct tool_call *call, const char *name)
{
	AUTO_STR shown = text_to_utf8(name, text_utf8_cut(name, strlen(name), MAX_NAME_BYTES));
	AUTO_STR names = str_dup("");
	bool any = false;

	/* Bytes that are no UTF-8 grew to three. */
	shown[text_utf8_cut(shown, strlen(shown), MAX_NAME_BYTES)] = '\0';
	for (size_t i = 0; i < n_tools; i++)
		any |= is_near(table[i], shown);
	for (size_t i = 0; i < n_tools; i++) {
		char *longer;

		if (any && !is_near(table[i], shown))
			continue;
		longer = str_printf("%s%s%s", names, names[0] ? ", " : "", table[i]->name);
		free(names);
		names = longer;
	}
	tool_error(
	    call, "unknown_tool", "there is no tool '%s'; %s %s", shown, any ? "did you mean" : "there are", names);
}

static int parse_arguments(const struct tool *t, size_t index, const char *text, json_t **ret, struct why *why)
{
	AUTO_JSON args = NULL;
	int rc = json_parse(text_is_blank(text) ? "{}" : text, text_is_blank(text) ? 2 : strlen(text), &args, why);

	if (rc == OK && !json_is_object(args))
		rc = why_set(why, ERR_INVALID, "the arguments must be an object");
	if (rc == OK)
		rc = schema_apply_aliases(args, t->arg_alias, why);
	pthread_once(&schemas_once, load_schemas);
	if (rc == OK)
		rc = schema_check(schemas[index], args, why);
	if (rc == OK)
		*ret = TAKE(args);
	return rc;
}

void tool_run(struct tool_call *call, const char *name, const char *arguments_json)
{
	size_t i = index_of(name);
	AUTO_JSON args = NULL;
	struct why why;

	ENSURE(call->outcome == 0);
	if (i == MAX_TOOLS) {
		refuse_unknown(call, name);
		return;
	}
	if (parse_arguments(table[i], i, arguments_json, &args, &why) != OK) {
		tool_error(call, "invalid_arguments", "%s: %s", table[i]->name, why.text);
		return;
	}
	if (tool_cancelled(call)) {
		tool_error(call, "cancelled", "the call was cancelled before it began");
		return;
	}
	call->args = args;
	table[i]->run(call);
	call->args = NULL;
	ENSURE(call->outcome != 0);
}

void tool_call_fini(struct tool_call *call)
{
	json_drop(&call->result);
	json_drop(&call->sdk_result);
	str_free(&call->model_text);
	str_free(&call->attachment);
}

static void finish(
    struct tool_call *call, enum tool_outcome outcome, json_t *result, json_t *sdk_result, const char *model_text)
{
	AUTO_STR clean = text_to_utf8(model_text, strlen(model_text));

	ENSURE(call->outcome == 0 && result != NULL);
	call->outcome = outcome;
	call->result = result;
	call->sdk_result = sdk_result;
	if (outcome == TOOL_SUCCESS && call->attachment != NULL) {
		AUTO_STR cut = text_cut_middle(clean, strlen(clean), MAX_MODEL_TEXT - strlen(call->attachment), NULL);

		call->model_text = str_printf("%s%s", cut, call->attachment);
	} else {
		call->model_text = text_cut_middle(clean, strlen(clean), MAX_MODEL_TEXT, NULL);
	}
}

void tool_attach(struct tool_call *call, char *text)
{
	ENSURE(call->attachment == NULL && (text == NULL || strlen(text) <= MAX_ATTACHMENT));
	call->attachment = text;
}

void tool_succeed(struct tool_call *call, json_t *result, json_t *sdk_result, const char *model_text)
{
	finish(call, TOOL_SUCCESS, result, sdk_result, model_text);
}

void tool_fail(struct tool_call *call, json_t *result, json_t *sdk_result, const char *model_text)
{
	finish(call, TOOL_FAILURE, result, sdk_result, model_text);
}

void tool_error(struct tool_call *call, const char *code, const char *fmt, ...)
{
	json_t *result = json_object();
	va_list ap;
	AUTO_STR raw = NULL;
	AUTO_STR message = NULL;
	AUTO_STR text = NULL;

	va_start(ap, fmt);
	raw = str_vprintf(fmt, ap);
	va_end(ap);
	message = text_to_utf8(raw, strlen(raw));
	json_put(result, "message", message);
	json_put(result, "code", code);
	text = str_printf("Error (%s): %s", code, message);
	finish(call, TOOL_ERROR, result, NULL, text);
}

bool tool_cancelled(const struct tool_call *call)
{
	struct pollfd p = {call->cancel_fd, POLLIN, 0};

	return call->cancel_fd > 0 && poll(&p, 1, 0) > 0;
}
