#include "agent/tools/rg.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

#define MAX_MATCHES 300
#define MAX_LINE_CHARS 500
#define MAX_OPTIONS 24
#define TIME_LIMIT_MS 30000

enum mode { CONTENT, FILES, COUNT };

/* The search in one root, and what it has found so far. */
struct grep {
	struct tool_call *call;
	const struct place *p;
	enum mode mode;
	int64_t limit;
	json_t *items, *sdk_items; /* matches, files or counts */
	json_t *lines; /* of the file now read; borrowed from items */
	json_t *waiting; /* context lines that belong before the next match of the SDK's form */
	int64_t n_lines, n_matched, total;
	struct strbuf *text;
	char *file;
	bool full;
};

/* Relative to the root. */
static char *grep_search_shown_path(const struct grep *s, const char *path)
{
	if (strncmp(path, "./", 2) == 0)
		path += 2;
	if (strcmp(path, "<stdin>") == 0 || strcmp(path, "-") == 0)
		return str_dup(s->p->rel);
	return strcmp(s->p->rel, ".") == 0 ? str_dup(path) : str_printf("%s/%s", s->p->rel, path);
}

/* {"text": …} or {"bytes": base64}, as ripgrep writes text that may not be UTF-8. malloc'ed valid UTF-8. */
static char *rg_text(const json_t *v)
{
	const char *text = json_string_value(json_object_get(v, "text"));
	const char *bytes = json_string_value(json_object_get(v, "bytes"));
	AUTO_STR raw = NULL;
	size_t len;

	if (text != NULL)
		return text_to_utf8(text, json_string_length(json_object_get(v, "text")));
	if (bytes == NULL || base64_decode(bytes, strlen(bytes), &raw, &len) != OK)
		return str_dup("");
	return text_to_utf8(raw, len);
}

static void grep_search_begin_file(struct grep *s, struct ignore *hidden, const json_t *data)
{
	AUTO_STR path = rg_text(json_object_get(data, "path"));
	json_t *item;

	if (ignore_find(hidden, path, false) != NULL) {
		s->lines = NULL; /* skips what follows, up to the next file */
		return;
	}
	item = json_object();
	free(s->file);
	s->file = grep_search_shown_path(s, path);
	s->lines = json_array();
	json_put(item, "file", s->file);
	json_put_new(item, "matches", s->lines);
	json_array_append_new(s->items, item);
	json_array_clear(s->waiting);
}

static char *short_line(const char *line, size_t len)
{
	AUTO_STR one = NULL;
	size_t chars = 0, i = 0;

	while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r'))
		len--;
	for (; i < len; i++) {
		chars += ((unsigned char)line[i] & 0xc0) != 0x80;
		if (chars > MAX_LINE_CHARS)
			break;
	}
	one = str_ndup(line, i);
	return i < len ? str_printf("%s...", one) : TAKE(one);
}

static json_t *last_sdk_match(const struct grep *s)
{
	size_t n = json_array_size(s->sdk_items);
	json_t *m = n > 0 ? json_array_get(s->sdk_items, n - 1) : NULL;
	const char *file = json_string_value(json_object_get(m, "file"));

	return file != NULL && strcmp(file, s->file) == 0 ? m : NULL;
}

static void add_sdk_context(struct grep *s, const char *line)
{
	json_t *m = last_sdk_match(s), *after = json_object_get(m, "afterContext");

	/* ripgrep does not say whether a line follows one match or precedes the next; it may do both. */
	if (m != NULL) {
		if (after == NULL) {
			after = json_array();
			json_put_new(m, "afterContext", after);
		}
		json_array_append_new(after, json_string(line));
	} else {
		json_array_append_new(s->waiting, json_string(line));
	}
}

static void add_sdk_match(struct grep *s, const char *line, int64_t number)
{
	json_t *m = json_object();

	json_put(m, "file", s->file);
	json_put(m, "line", line);
	json_put_int(m, "lineNumber", number);
	if (json_array_size(s->waiting) > 0) {
		json_put_new(m, "beforeContext", json_copy(s->waiting));
		json_array_clear(s->waiting);
	}
	json_array_append_new(s->sdk_items, m);
}

static void grep_search_add_line(struct grep *s, int64_t number, const char *text, size_t len, bool is_match)
{
	AUTO_STR line = short_line(text, len);
	json_t *j = json_object();

	json_put_int(j, "lineNumber", number);
	json_put(j, "content", line);
	if (!is_match)
		json_put_bool(j, "isContextLine", true);
	json_array_append_new(s->lines, j);
	if (is_match)
		add_sdk_match(s, line, number);
	else
		add_sdk_context(s, line);
	strbuf_addf(
	    s->text, "%s%c%lld%c%s\n", s->file, is_match ? ':' : '-', (long long)number, is_match ? ':' : '-', line);
	s->n_lines++;
	s->n_matched += is_match;
}

/* A match over several lines is one event with all of them. */
static bool add_lines(struct grep *s, const json_t *data, bool is_match)
{
	AUTO_STR text = rg_text(json_object_get(data, "lines"));
	int64_t number = json_integer_value(json_object_get(data, "line_number"));

	for (const char *at = text; *at != '\0'; number++) {
		size_t n = strcspn(at, "\n");

		if (is_match && s->n_matched >= s->limit) {
			s->full = true;
			return false;
		}
		grep_search_add_line(s, number, at, n, is_match);
		at += n + (at[n] == '\n');
	}
	return true;
}

static bool grep_search_on_event(void *ctx, struct ignore *hidden, const char *record, size_t len)
{
	struct grep *s = ctx;
	AUTO_JSON event = NULL;
	const char *type;
	json_t *data;

	if (json_parse(record, len, &event, NULL) != OK)
		return true;
	type = json_string_value(json_object_get(event, "type"));
	data = json_object_get(event, "data");
	if (type == NULL)
		return true;
	if (strcmp(type, "begin") == 0)
		grep_search_begin_file(s, hidden, data);
	else if (s->lines != NULL && strcmp(type, "match") == 0)
		return add_lines(s, data, true);
	else if (s->lines != NULL && strcmp(type, "context") == 0)
		return add_lines(s, data, false);
	return true;
}

static bool on_file(void *ctx, struct ignore *hidden, const char *record, size_t len)
{
	struct grep *s = ctx;
	AUTO_STR path = grep_search_shown_path(s, record);

	if (ignore_find(hidden, record, false) != NULL)
		return true;
	s->total++;
	if ((int64_t)json_array_size(s->items) >= s->limit) {
		s->full = true;
		return false;
	}
	json_array_append_new(s->items, json_lossy(path, strlen(path)));
	strbuf_addf(s->text, "%s\n", path);
	return true;
}

/* "PATH\0N"; of standard input only "N". */
static bool on_count(void *ctx, struct ignore *hidden, const char *record, size_t len)
{
	struct grep *s = ctx;
	size_t path_len = strnlen(record, len);
	const char *number = path_len < len ? record + path_len + 1 : record;
	AUTO_STR path = grep_search_shown_path(s, path_len < len ? record : "-");
	int64_t n = strtoll(number, NULL, 10);
	json_t *j;

	if (path_len < len && ignore_find(hidden, record, false) != NULL)
		return true;
	if ((int64_t)json_array_size(s->items) >= s->limit) {
		s->full = true;
		return false;
	}
	j = json_object();
	json_put(j, "file", path);
	json_put_int(j, "count", n);
	json_array_append_new(s->items, j);
	strbuf_addf(s->text, "%s: %lld\n", path, (long long)n);
	s->total += n;
	return true;
}

/* Options of ripgrep; the strings are owned. */
struct grep_options {
	char *v[MAX_OPTIONS];
	size_t n;
};

static void grep_options_fini(struct grep_options *o)
{
	for (size_t i = 0; i < o->n; i++)
		free(o->v[i]);
}

static void option(struct grep_options *o, char *text)
{
	ENSURE(o->n < MAX_OPTIONS - 1);
	o->v[o->n++] = text;
}

static void option_string(struct grep_options *o, const struct tool_call *call, const char *arg, const char *name)
{
	if (arg_string(call, arg, "")[0] != '\0')
		option(o, str_printf("--%s=%s", name, arg_string(call, arg, "")));
}

static void option_number(struct grep_options *o, const struct tool_call *call, const char *arg, const char *name)
{
	if (json_object_get(call->args, arg) != NULL)
		option(o, str_printf("--%s=%lld", name, (long long)arg_int(call, arg, 0)));
}

static void grep_search_set_options(struct grep_options *o, const struct tool_call *call, enum mode mode)
{
	option(o, str_dup("--sort=path"));
	option_string(o, call, "glob", "glob");
	option_string(o, call, "type", "type");
	if (arg_bool(call, "caseInsensitive"))
		option(o, str_dup("--ignore-case"));
	if (arg_bool(call, "multiline"))
		option(o, str_dup("--multiline"));
	if (arg_bool(call, "multiline"))
		option(o, str_dup("--multiline-dotall"));
	if (mode == CONTENT) {
		option(o, str_dup("--json"));
		option_number(o, call, "contextAfter", "after-context");
		option_number(o, call, "contextBefore", "before-context");
		option_number(o, call, "context", "context");
	} else {
		option(o, str_dup(mode == FILES ? "--files-with-matches" : "--count"));
		option(o, str_dup("--null"));
	}
	option(o, str_printf("--regexp=%s", arg_string(call, "pattern", "")));
}

static json_t *root_result(struct grep *s, json_t **ret_sdk)
{
	json_t *body = json_object(), *out = json_object(), *sdk = json_object(), *outer = json_object();
	int64_t n = (int64_t)json_array_size(s->items);

	if (s->mode == CONTENT) {
		json_put_new(body, "matches", json_incref(s->items));
		json_put_int(body, "totalLines", s->n_lines);
		json_put_int(body, "totalMatchedLines", s->n_matched);
		json_put_new(out, "matches", json_incref(s->sdk_items));
		json_put_int(out, "totalMatches", s->n_matched);
	} else if (s->mode == FILES) {
		json_put_new(body, "files", json_incref(s->items));
		json_put_int(body, "totalFiles", n);
		json_put_new(out, "files", json_incref(s->items));
		json_put_int(out, "count", n);
	} else {
		json_put_new(body, "counts", json_incref(s->items));
		json_put_int(body, "totalMatches", s->total);
		json_put_new(out, "counts", json_incref(s->items));
		json_put_int(out, "total", s->total);
	}
	if (s->full)
		json_put_bool(body, "truncated", true);
	json_put(sdk, "type", s->mode == CONTENT ? "content" : s->mode == FILES ? "files" : "count");
	json_put_new(sdk, "output", out);
	*ret_sdk = sdk;
	json_put_new(outer, s->mode == CONTENT ? "content" : s->mode == FILES ? "files" : "count", body);
	return outer;
}

static int search_place(struct tool_call *call, const struct place *p, const struct grep_options *o, enum mode mode,
    int64_t *limit, struct strbuf *text, json_t *results, json_t *sdk_results)
{
	static bool (*const handlers[])(void *, struct ignore *, const char *, size_t) = {
	    grep_search_on_event, on_file, on_count};
	AUTO_JSON items = json_array();
	AUTO_JSON sdk_items = json_array();
	AUTO_JSON waiting = json_array();
	struct grep s = {.call = call,
	    .p = p,
	    .mode = mode,
	    .limit = *limit,
	    .items = items,
	    .sdk_items = sdk_items,
	    .waiting = waiting,
	    .text = text};
	AUTO_JSON root = json_lossy(p->root, strlen(p->root));
	json_t *sdk;
	bool cut;
	int rc = rg_run(&(struct rg){.call = call,
			    .target = p,
			    .args = (const char *const *)o->v,
			    .separator = mode == FILES ? '\0' : '\n',
			    .on_record = handlers[mode],
			    .ctx = &s,
			    .deadline_mono_ms = call_deadline(call, TIME_LIMIT_MS)},
	    &cut);

	str_free(&s.file);
	if (rc != OK)
		return rc;
	s.full |= cut;
	json_put_new(results, json_string_value(root), root_result(&s, &sdk));
	json_put_new(sdk_results, json_string_value(root), sdk);
	*limit -= mode == CONTENT ? s.n_matched : (int64_t)json_array_size(items);
	if (s.full)
		strbuf_adds(text, "(there are more; only the first are shown)\n");
	return OK;
}

/* One path, or every root. */
static int search_all(struct tool_call *call, const struct grep_options *o, enum mode mode, struct strbuf *text,
    json_t *results, json_t *sdk_results)
{
	int64_t limit = MIN(arg_int(call, "headLimit", MAX_MATCHES), MAX_MATCHES);
	const char *const *roots;
	size_t n = session_roots(call->session, &roots);
	int rc = OK;

	if (json_object_get(call->args, "path") != NULL)
		n = 1;
	for (size_t i = 0; rc == OK && limit > 0 && i < n; i++) {
		struct place p;

		rc = arg_place(call, "path", roots[i], &p);
		if (rc != OK)
			break;
		rc = search_place(call, &p, o, mode, &limit, text, results, sdk_results);
		place_fini(&p);
	}
	return rc;
}

static void grep_search_run(struct tool_call *call)
{
	const char *name = arg_string(call, "outputMode", "content");
	enum mode mode = name[0] == 'f' ? FILES : strcmp(name, "count") == 0 ? COUNT : CONTENT;
	AUTO_FINI(grep_options) o = {0};
	AUTO_JSON results = json_object();
	AUTO_JSON sdk_results = json_object();
	AUTO_FINI(strbuf) text = STRBUF(4 * 1024 * 1024);
	json_t *j, *sdk;

	grep_search_set_options(&o, call, mode);
	if (search_all(call, &o, mode, &text, results, sdk_results) != OK)
		return;
	j = json_object();
	sdk = json_object();
	json_put(j, "pattern", arg_string(call, "pattern", ""));
	json_put(j, "path", arg_string(call, "path", session_primary_root(call->session)));
	json_put(j, "outputMode", name);
	json_put_new(j, "workspaceResults", TAKE(results));
	json_put_new(sdk, "workspaceResults", TAKE(sdk_results));
	tool_succeed(call, j, sdk, text.len > 0 ? strbuf_str(&text) : "No matches found.\n");
}

static const char *const aliases[] = {"query", "pattern", "regex", "pattern", "include_pattern", "glob",
    "includePattern", "glob", "output_mode", "outputMode", "case_insensitive", "caseInsensitive", "-i",
    "caseInsensitive", "head_limit", "headLimit", "-A", "contextAfter", "-B", "contextBefore", "-C", "context",
    "directory", "path", "target_directory", "path", NULL};

static const struct tool grep_search = {
    .name = "grep_search",
    .aliases = {"grep", "search_files", "ripgrep"},
    .description =
	"Searches file contents of the workspace for a regular expression (ripgrep syntax). At most 300 matches. What "
	".gitignore or .cursorignore excludes and binary files are left out.",
    .parameters =
	"{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"pattern\"],\"properties\":{"
	"\"pattern\":{\"type\":\"string\",\"minLength\":1,\"description\":\"Regular expression\"},"
	"\"path\":{\"type\":\"string\",\"minLength\":1,\"description\":\"File or folder; default: the workspace\"},"
	"\"glob\":{\"type\":\"string\",\"description\":\"Only files that match, for example *.c\"},"
	"\"type\":{\"type\":\"string\",\"description\":\"Only files of a type that ripgrep knows, for example py\"},"
	"\"outputMode\":{\"type\":\"string\",\"enum\":[\"content\",\"files_with_matches\",\"count\"]},"
	"\"caseInsensitive\":{\"type\":\"boolean\"},"
	"\"multiline\":{\"type\":\"boolean\",\"description\":\"The expression may match across lines\"},"
	"\"headLimit\":{\"type\":\"integer\",\"minimum\":1,\"description\":\"Stop after so many\"},"
	"\"contextAfter\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100,\"description\":\"Lines after a match\"},"
	"\"contextBefore\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100,\"description\":\"Lines before a "
	"match\"},"
	"\"context\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100,\"description\":\"Lines around a match\"}}}",
    .arg_alias = aliases,
    .class = TOOL_READ,
    .sdk_type = "grep",
    .run = grep_search_run,
};
TOOL(grep_search);
