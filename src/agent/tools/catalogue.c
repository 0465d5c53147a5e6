/* The list of tools: those of the program, which register at link time, and those that a session adds and removes. */
#include "agent/tools/catalogue.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#define MAX_NAME_BYTES 64
#define MAX_PARAMETERS (64 * 1024)
/* Above TOOLS_MAX times what one may take, with room. */
#define DESCRIPTION_MAX ((size_t)64 * 1024 * 1024)

/* Ends of the section that TOOL() fills; absent in a program that links no tool. */
extern const struct tool *const __start_tool_table[] __attribute__((weak));
extern const struct tool *const __stop_tool_table[] __attribute__((weak));

/* The lock guards the list. An entry itself is constant while a call holds it: tools_remove asserts that none does. */
static pthread_once_t once = PTHREAD_ONCE_INIT, schemas_once = PTHREAD_ONCE_INIT;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct catalogue_entry *list[TOOLS_MAX]; /* by name */
static size_t n_list;

static int by_name(const void *a, const void *b)
{
	return strcmp(
	    (*(struct catalogue_entry *const *)a)->tool->name, (*(struct catalogue_entry *const *)b)->tool->name);
}

/* lock held, or nobody else there yet. */
static struct catalogue_entry *catalogue_add_entry(const struct tool *t, const void *owner)
{
	struct catalogue_entry *e = NEW(struct catalogue_entry);

	ENSURE(n_list < TOOLS_MAX);
	e->tool = t;
	e->owner = owner;
	list[n_list++] = e;
	qsort(list, n_list, sizeof list[0], by_name);
	return e;
}

static void add_own_tools(void)
{
	for (const struct tool *const *t = __start_tool_table; t != __stop_tool_table; t++)
		catalogue_add_entry(*t, NULL);
}

/* Schemas of the program's tools are parsed with the first call: a worker that waits needs none. */
static void parse_own_schemas(void)
{
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_list; i++) {
		const char *text = list[i]->tool->parameters;

		if (list[i]->owner == NULL)
			ENSURE(json_parse(text, strlen(text), &list[i]->schema, NULL) == OK);
	}
	pthread_mutex_unlock(&lock);
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

/* lock held. */
static struct catalogue_entry *find_entry(const char *name)
{
	for (size_t i = 0; i < n_list; i++)
		if (answers_to(list[i]->tool, name))
			return list[i];
	return NULL;
}

const struct tool *tool_find(const char *name)
{
	const struct catalogue_entry *e;

	pthread_once(&once, add_own_tools);
	pthread_mutex_lock(&lock);
	e = find_entry(name);
	pthread_mutex_unlock(&lock);
	return e != NULL ? e->tool : NULL;
}

struct catalogue_entry *catalogue_hold(const char *name)
{
	struct catalogue_entry *e;

	pthread_once(&once, add_own_tools);
	pthread_once(&schemas_once, parse_own_schemas);
	pthread_mutex_lock(&lock);
	e = find_entry(name);
	if (e != NULL)
		e->holders++;
	pthread_mutex_unlock(&lock);
	return e;
}

void catalogue_release(struct catalogue_entry *e)
{
	pthread_mutex_lock(&lock);
	ENSURE(e->holders > 0);
	e->holders--;
	pthread_mutex_unlock(&lock);
}

static int check_addition(const struct tool *t, json_t **ret_schema, struct why *why)
{
	AUTO_JSON schema = NULL;

	if (!text_is_token(t->name, "_-", MAX_NAME_BYTES))
		return why_set(why, ERR_INVALID, "the name of a tool must be 1 to 64 characters of A-Z a-z 0-9 _ -");
	if (strlen(t->parameters) > MAX_PARAMETERS)
		return why_set(
		    why, ERR_INVALID, "parameters of tool '%s' are larger than %d bytes", t->name, MAX_PARAMETERS);
	if (json_parse(t->parameters, strlen(t->parameters), &schema, NULL) != OK || !json_is_object(schema))
		return why_set(why, ERR_INVALID, "parameters of tool '%s' must be an object", t->name);
	*ret_schema = TAKE(schema);
	return OK;
}

/* lock held. A name is one tool's, whatever the case, and no alias of another. */
static int catalogue_check_names(const struct tool *t, struct why *why)
{
	if (n_list >= TOOLS_MAX)
		return why_set(why, ERR_FULL, "there are %d tools already", TOOLS_MAX);
	if (find_entry(t->name) != NULL)
		return why_set(why, ERR_CONFLICT, "there is a tool '%s' already", t->name);
	for (size_t i = 0; i < ARRAY_LEN(t->aliases) && t->aliases[i] != NULL; i++)
		if (find_entry(t->aliases[i]) != NULL)
			return why_set(why, ERR_CONFLICT, "there is a tool '%s' already", t->aliases[i]);
	return OK;
}

int tool_add(const struct tool *t, const void *owner, struct why *why)
{
	AUTO_JSON schema = NULL;
	int rc = check_addition(t, &schema, why);

	ENSURE(owner != NULL);
	if (rc != OK)
		return rc;
	pthread_once(&once, add_own_tools);
	pthread_mutex_lock(&lock);
	rc = catalogue_check_names(t, why);
	if (rc == OK)
		catalogue_add_entry(t, owner)->schema = TAKE(schema);
	pthread_mutex_unlock(&lock);
	return rc;
}

void tools_remove(const void *owner)
{
	size_t kept = 0;

	ENSURE(owner != NULL);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_list; i++) {
		if (list[i]->owner != owner) {
			list[kept++] = list[i];
			continue;
		}
		/* A call that runs would go on in what its owner is about to free. */
		ENSURE(list[i]->holders == 0);
		json_decref(list[i]->schema);
		free(list[i]);
	}
	n_list = kept;
	pthread_mutex_unlock(&lock);
}

static json_t *aliases_of(const struct tool *t)
{
	json_t *names = json_array();

	for (size_t i = 0; i < ARRAY_LEN(t->aliases) && t->aliases[i] != NULL; i++)
		json_array_append_new(names, json_string(t->aliases[i]));
	return names;
}

static json_t *arg_aliases_of(const struct tool *t)
{
	json_t *map = json_object();

	for (const char *const *pair = t->arg_alias; pair != NULL && pair[0] != NULL; pair += 2)
		json_put(map, pair[0], pair[1]);
	return map;
}

static void catalogue_describe_tool(struct strbuf *b, const struct tool *t)
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

char *tools_describe(const void *owner)
{
	struct strbuf b = STRBUF(DESCRIPTION_MAX);
	bool any = false;

	pthread_once(&once, add_own_tools);
	strbuf_addc(&b, '[');
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_list; i++) {
		if (list[i]->owner != owner || list[i]->tool->internal)
			continue;
		if (any)
			strbuf_addc(&b, ',');
		catalogue_describe_tool(&b, list[i]->tool);
		any = true;
	}
	pthread_mutex_unlock(&lock);
	strbuf_addc(&b, ']');
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

char *catalogue_near(const char *name, bool *ret_near)
{
	AUTO_STR shown = str_ndup(name, text_utf8_cut(name, strlen(name), MAX_NAME_BYTES));
	struct strbuf names = STRBUF(DESCRIPTION_MAX);
	bool any = false;

	pthread_once(&once, add_own_tools);
	pthread_mutex_lock(&lock);
	for (size_t i = 0; i < n_list; i++)
		any |= is_near(list[i]->tool, shown);
	for (size_t i = 0; i < n_list; i++)
		if (!any || is_near(list[i]->tool, shown))
			strbuf_addf(&names, "%s%s", names.len > 0 ? ", " : "", list[i]->tool->name);
	pthread_mutex_unlock(&lock);
	*ret_near = any;
	return strbuf_take(&names);
}
