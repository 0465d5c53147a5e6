#include "agent/hooks/config.h"
#include "agent/hooks/match.h"
#include "base/mem.h"
#include "base/text.h"
#include <stdarg.h>
#include <string.h>

#define TIMEOUT_DEFAULT_MS (60 * 1000)
#define TIMEOUT_START_MS (600 * 1000)
#define TIMEOUT_MIN_MS 1000
#define TIMEOUT_MAX_MS (3600 * 1000)
#define LOOP_LIMIT_DEFAULT 5
#define LOOP_LIMIT_MAX 1000
#define COMMAND_MAX ((size_t)64 * 1024)
#define WARNINGS_MAX 50
#ifdef __APPLE__
#define HOOK_OS "macos"
#else
#define HOOK_OS "linux"
#endif

const char *hook_rank_name(enum hook_rank rank)
{
	static const char *const names[] = {"enterprise", "team", "flags", "project", "user", "third-party"};

	return names[rank];
}

void hook_warn(struct hook_source *s, const char *fmt, ...)
{
	AUTO_STR said = NULL;
	AUTO_STR line = NULL;
	AUTO_STR all = NULL;
	va_list ap;

	if (json_array_size(s->warnings) >= WARNINGS_MAX)
		return;
	va_start(ap, fmt);
	said = str_vprintf(fmt, ap);
	va_end(ap);
	line = text_line(said, 500);
	all = str_printf("%s: %s", s->file, line);
	json_array_append_new(s->warnings, json_lossy(all, strlen(all)));
}

static struct hook_source *source_new(enum hook_rank rank, const char *file, const char *dir, const char *root)
{
	struct hook_source *s = NEW(struct hook_source);

	s->rank = rank;
	s->file = str_dup(file);
	s->dir = str_dup(dir);
	s->root = str_dup(root);
	s->third_party = rank == HOOKS_THIRD_PARTY;
	s->warnings = json_array();
	return s;
}

void hook_source_free(struct hook_source **sp)
{
	struct hook_source *s = TAKE(*sp);

	if (s == NULL)
		return;
	for (size_t i = 0; i < s->n; i++) {
		free(s->entries[i].command);
		free(s->entries[i].pattern);
		hook_matcher_free(&s->entries[i].matcher);
	}
	free(s->entries);
	free(s->file);
	free(s->dir);
	free(s->root);
	json_decref(s->warnings);
	free(s);
}

uint32_t hook_source_events(const struct hook_source *s)
{
	uint32_t events = 0;

	for (size_t i = 0; i < s->n; i++)
		events |= (uint32_t)1 << s->entries[i].event;
	return events;
}

static int64_t entry_timeout(struct hook_source *s, enum hook_event e, const json_t *given, const char *where)
{
	const json_t *v = json_object_get(given, "timeout");
	int64_t usual = e == HOOK_SESSION_START ? TIMEOUT_START_MS : TIMEOUT_DEFAULT_MS;
	double seconds;

	if (v == NULL)
		return usual;
	if (!json_is_number(v)) {
		hook_warn(s, "%s.timeout must be a number of seconds; %lld is used", where, (long long)(usual / 1000));
		return usual;
	}
	seconds = json_number_value(v);
	if (!(seconds >= TIMEOUT_MIN_MS / 1000.0) || seconds > TIMEOUT_MAX_MS / 1000.0)
		hook_warn(s, "%s.timeout must be from 1 to 3600 seconds; the nearest is used", where);
	if (!(seconds > 0))
		return TIMEOUT_MIN_MS;
	seconds = MIN(MAX(seconds, TIMEOUT_MIN_MS / 1000.0), TIMEOUT_MAX_MS / 1000.0);
	return (int64_t)(seconds * 1000);
}

static int64_t entry_loop_limit(struct hook_source *s, const json_t *given, const char *where)
{
	const json_t *v = json_object_get(given, "loop_limit");

	if (v == NULL)
		return s->third_party ? -1 : LOOP_LIMIT_DEFAULT;
	if (json_is_null(v))
		return -1;
	if (!json_is_integer(v) || json_integer_value(v) < 0) {
		hook_warn(s, "%s.loop_limit must be a whole number, 0 or more, or null; %d is used", where,
		    LOOP_LIMIT_DEFAULT);
		return LOOP_LIMIT_DEFAULT;
	}
	return MIN(json_integer_value(v), LOOP_LIMIT_MAX);
}

static void entry_matcher(struct hook_source *s, struct hook_entry *h, const json_t *v, const char *where)
{
	struct why why = {""};

	if (v == NULL || json_is_null(v) || !hook_event_has_subject(h->event))
		return;
	if (json_is_string(v)) {
		h->pattern = str_dup(json_string_value(v));
		if (hook_matcher_new(h->pattern, &h->matcher, &why) == OK)
			return;
	} else {
		h->pattern = str_dup("(not a text)");
		why_set(&why, ERR_INVALID, "it must be a text");
	}
	h->broken = true;
	hook_warn(s, "%s.matcher is not a regular expression: %s; %s", where, why.text,
	    h->fail_closed ? "as failClosed is set, the hook refuses everything" : "the hook is skipped");
}

/* NULL: there is none that could run here; a warning says why. */
static const char *entry_command(struct hook_source *s, const json_t *given, const char *where)
{
	const json_t *type = json_object_get(given, "type"), *command = json_object_get(given, "command");

	if (!json_is_object(given)) {
		hook_warn(s, "%s must be an object with a command", where);
		return NULL;
	}
	if (type != NULL && (!json_is_string(type) || strcmp(json_string_value(type), "command") != 0)) {
		if (json_is_string(type) && strcmp(json_string_value(type), "prompt") == 0)
			hook_warn(s, "%s is a prompt hook: those never run on a worker; it is skipped", where);
		else
			hook_warn(s, "%s.type must be \"command\"; the hook is skipped", where);
		return NULL;
	}
	if (!json_is_string(command) || text_is_blank(json_string_value(command))) {
		hook_warn(s, "%s.command must be a text that is not empty; the hook is skipped", where);
		return NULL;
	}
	if (json_string_length(command) > COMMAND_MAX ||
	    strlen(json_string_value(command)) != json_string_length(command)) {
		hook_warn(s, "%s.command is longer than 64 KiB or holds a NUL character; the hook is skipped", where);
		return NULL;
	}
	return json_string_value(command);
}

/* An entry of the team may be for an operating system: "os", a word or several. */
static bool is_for_this_system(struct hook_source *s, const json_t *given, const char *where)
{
	const json_t *os = s->rank == HOOKS_TEAM ? json_object_get(given, "os") : NULL, *word;
	size_t i;

	if (os == NULL)
		return true;
	if (json_is_string(os))
		return strcmp(json_string_value(os), HOOK_OS) == 0;
	if (!json_is_array(os)) {
		hook_warn(s, "%s.os must be a text or an array of texts; the hook is for all", where);
		return true;
	}
	json_array_foreach((json_t *)(uintptr_t)os, i, word)
	{
		if (json_is_string(word) && strcmp(json_string_value(word), HOOK_OS) == 0)
			return true;
	}
	return false;
}

void hook_add_entry(
    struct hook_source *s, enum hook_event e, const json_t *given, const json_t *matcher, const char *where)
{
	const char *command = entry_command(s, given, where);
	const json_t *closed = json_object_get(given, "failClosed");
	struct hook_entry *h;

	if (command == NULL || !is_for_this_system(s, given, where))
		return;
	if (closed != NULL && !json_is_boolean(closed))
		hook_warn(s, "%s.failClosed must be true or false; true is used", where);
	s->entries = mem_grow(s->entries, &s->cap, s->n + 1, sizeof *s->entries);
	h = &s->entries[s->n++];
	*h = (struct hook_entry){.event = e,
	    .command = str_dup(command),
	    /* Who wrote something there wanted something there. */
	    .fail_closed = closed != NULL && !json_is_false(closed),
	    .timeout_ms = entry_timeout(s, e, given, where),
	    .loop_limit = entry_loop_limit(s, given, where)};
	entry_matcher(s, h, matcher, where);
}

static void read_event(struct hook_source *s, const char *name, const json_t *list)
{
	enum hook_event e = hook_event_find(name);
	size_t i;
	json_t *item;

	if (e == HOOK_NEVER) {
		hook_warn(s, "hooks.%s belongs to editors and never happens on a worker; its hooks are skipped", name);
		return;
	}
	if (e == HOOK_UNKNOWN) {
		hook_warn(s, "hooks.%.80s is not an event (names are case-sensitive, such as preToolUse)", name);
		return;
	}
	if (!json_is_array(list)) {
		hook_warn(s, "hooks.%s must be an array of hooks", name);
		return;
	}
	json_array_foreach((json_t *)list, i, item)
	{
		AUTO_STR where = str_printf("hooks.%s[%zu]", name, i);

		hook_add_entry(s, e, item, json_object_get(item, "matcher"), where);
	}
}

static void spoil(struct hook_source *s, const char *what)
{
	s->invalid = true;
	hook_warn(s, "%s; none of its hooks run", what);
}

static size_t count_entries(const json_t *hooks)
{
	const char *name;
	json_t *list;
	size_t n = 0;

	json_object_foreach((json_t *)hooks, name, list) n += json_array_size(list);
	return n;
}

static void read_root(struct hook_source *s, const json_t *root)
{
	const json_t *version = json_object_get(root, "version"), *hooks = json_object_get(root, "hooks");
	const char *name;
	json_t *list;

	if (!s->third_party && version != NULL && !(json_is_number(version) && json_number_value(version) == 1)) {
		spoil(s, "\"version\" must be 1");
		return;
	}
	if (hooks != NULL && !json_is_object(hooks)) {
		spoil(s, "\"hooks\" must be an object from event to array");
		return;
	}
	if (count_entries(hooks) > HOOK_ENTRIES_MAX) {
		spoil(s, "it has more than 200 hooks");
		return;
	}
	if (s->third_party) {
		hook_third_party_parse(s, hooks);
		return;
	}
	json_object_foreach((json_t *)hooks, name, list) read_event(s, name, list);
}

struct hook_source *hook_source_parse(
    enum hook_rank rank, const char *file, const char *dir, const char *root, const char *text, size_t len)
{
	struct hook_source *s = source_new(rank, file, dir, root);
	AUTO_JSON j = NULL;
	struct why why = {""};

	if (len > HOOK_FILE_MAX) {
		spoil(s, "the file is larger than 1 MiB");
	} else if (json_parse_strict(text, len, &j, &why) != OK) {
		AUTO_STR what = str_printf("not valid JSON: %s", why.text);

		spoil(s, what);
	} else if (!json_is_object(j)) {
		spoil(s, "it must be an object like {\"version\": 1, \"hooks\": {}}");
	} else {
		read_root(s, j);
	}
	return s;
}

struct hook_source *hook_source_command(
    enum hook_rank rank, const char *file, const char *dir, enum hook_event event, const char *command)
{
	struct hook_source *s = source_new(rank, file, dir, NULL);
	AUTO_JSON given = json_object();

	json_put(given, "command", command);
	hook_add_entry(s, event, given, NULL, hook_event_name(event));
	return s;
}
