/* Grammar: an option is key=value or [key=value], at the start of the text, after white space, or after one of "(,;".
 * What stands in code or in a quotation is never an option and never a mention, and stays as it is. */
#include "server/triggers/options.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <string.h>
#include <strings.h>

#define TEXT_MAX ((size_t)1024 * 1024)
#define KEY_MAX 32

enum { PLAIN, CODE, GONE };

struct reading {
	const struct trigger_text *t;
	char *text; /* typographic quotes are plain ones */
	size_t len;
	unsigned char *kind; /* of each byte */
	struct trigger_options *o;
	struct why *why;
};

void trigger_options_fini(struct trigger_options *o)
{
	char **const texts[] = {
	    &o->pool, &o->worker, &o->repo, &o->env, &o->branch, &o->model, &o->channel, &o->prompt};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		str_free(texts[i]);
	json_drop(&o->model_params);
}

static void mark(struct reading *r, size_t from, size_t to, int kind)
{
	if (to > from)
		memset(r->kind + from, kind, to - from);
}

static size_t line_end(const struct reading *r, size_t at)
{
	return at + strcspn(r->text + at, "\n");
}

static size_t count(const char *s, char c)
{
	size_t n = 0;

	while (s[n] == c)
		n++;
	return n;
}

/* From a line that opens a fence to the line that closes it, or to the end. */
static size_t skip_fence(const struct reading *r, size_t at, char sign, size_t n)
{
	size_t end = line_end(r, at);

	while (r->text[end] == '\n') {
		size_t begin = end + 1, in = count(r->text + begin, ' ');

		end = line_end(r, begin);
		if (in <= 3 && count(r->text + begin + in, sign) >= n)
			return end;
	}
	return end;
}

static void mark_inline(struct reading *r, size_t begin, size_t end)
{
	for (size_t at = begin; at < end;) {
		size_t n = count(r->text + at, '`'), close;

		if (n == 0) {
			at++;
			continue;
		}
		for (close = at + n; close < end; close += MAX(count(r->text + close, '`'), (size_t)1))
			if (count(r->text + close, '`') == n)
				break;
		if (close < end) {
			mark(r, at, close + n, CODE);
			at = close + n;
		} else {
			at += n;
		}
	}
}

/* Lines: fences, quotations, indented code behind an empty line. What is left of a paragraph may have inline code. */
static void mark_lines(struct reading *r)
{
	bool empty_before = true;
	size_t paragraph = 0;

	for (size_t at = 0; at < r->len;) {
		size_t in = count(r->text + at, ' '), end = line_end(r, at), n;
		const char *s = r->text + at + in;
		bool blank = s[strspn(s, " \t\r")] == '\n' || s[strspn(s, " \t\r")] == '\0';
		bool code = false;

		if (in <= 3 && (*s == '`' || *s == '~') && (n = count(s, *s)) >= 3 &&
		    (*s != '`' || memchr(s + n, '`', end - at - in - n) == NULL)) {
			end = skip_fence(r, at, *s, n);
			code = true;
		} else if ((in <= 3 && *s == '>') || ((in >= 4 || r->text[at] == '\t') && empty_before && !blank)) {
			code = true;
		}
		if (code || blank) {
			mark_inline(r, paragraph, at);
			paragraph = end < r->len ? end + 1 : end;
		}
		if (code)
			mark(r, at, end, CODE);
		/* Indented code goes on until a line that is not. */
		empty_before = blank || (code && (in >= 4 || r->text[at] == '\t'));
		at = end + 1;
	}
	if (paragraph < r->len)
		mark_inline(r, paragraph, r->len);
}

static void mark_between(struct reading *r, const char *open, const char *close, int kind)
{
	for (size_t at = 0; at < r->len; at++) {
		const char *end;

		if (r->kind[at] != PLAIN || strncasecmp(r->text + at, open, strlen(open)) != 0)
			continue;
		end = strcasestr(r->text + at, close);
		end = end != NULL ? end + strlen(close) : r->text + r->len;
		mark(r, at, (size_t)(end - r->text), kind);
		at = (size_t)(end - r->text) - 1;
	}
}

/* “ ” „ become ". The text never grows. */
static void plain_quotes(struct reading *r)
{
	static const char *const quotes[] = {"\xe2\x80\x9c", "\xe2\x80\x9d", "\xe2\x80\x9e"};
	size_t to = 0;

	for (size_t at = 0; at < r->len;) {
		bool is_quote = false;

		/* Only where they are the quotes of a value: prose keeps its own. */
		for (size_t i = 0; i < ARRAY_LEN(quotes); i++)
			is_quote = is_quote || strncmp(r->text + at, quotes[i], 3) == 0;
		if (is_quote && to > 0 && r->text[to - 1] == '=') {
			const char *end = strpbrk(r->text + at + 3, "\n");
			size_t limit = end != NULL ? (size_t)(end - r->text) : r->len;

			r->text[to++] = '"';
			at += 3;
			while (at < limit) {
				bool closes = false;

				for (size_t i = 0; i < ARRAY_LEN(quotes); i++)
					closes = closes || strncmp(r->text + at, quotes[i], 3) == 0;
				if (closes) {
					r->text[to++] = '"';
					at += 3;
					break;
				}
				r->text[to++] = r->text[at++];
			}
			continue;
		}
		r->text[to++] = r->text[at++];
	}
	r->text[to] = '\0';
	r->len = to;
}

static bool is_word(char c)
{
	return isalnum((unsigned char)c) || c == '_' || (unsigned char)c >= 0x80;
}

/* The first mention outside of code: not behind a word or a slash, not before a word or a hyphen. */
static size_t find_mention(const struct reading *r, size_t *ret_at)
{
	for (size_t at = 0; at < r->len; at++)
		for (const char *const *m = r->t->mentions; r->kind[at] == PLAIN && *m != NULL; m++) {
			size_t n = strlen(*m);
			char before = at > 0 ? r->text[at - 1] : ' ', after;

			if (strncasecmp(r->text + at, *m, n) != 0 || is_word(before) || before == '/')
				continue;
			after = r->text[at + n];
			if (is_word(after) || after == '-')
				continue;
			*ret_at = at;
			return n;
		}
	return 0;
}

static bool is_one_of(const char *v, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcasecmp(v, *list) == 0)
			return true;
	return false;
}

static const char *const yes[] = {"true", "t", "1", NULL}, *const no[] = {"false", "f", "0", NULL};
static const char *const yes_too[] = {"true", "t", "1", "yes", NULL}, *const no_too[] = {"false", "f", "0", "no", NULL};

static int bad_value(struct reading *r, const char *key, const char *v, const char *example)
{
	AUTO_STR line = text_line(v, 100);

	return why_set(
	    r->why, ERR_INVALID, "\"%s\" is not a valid value for %s. Example: %s=%s", line, key, key, example);
}

static bool is_pool(const char *v)
{
	return isalnum((unsigned char)v[0]) && strlen(v) <= 63 && text_is_token(v, "._-", 63);
}

bool trigger_is_repo(const char *v)
{
	const char *path = v;
	size_t slashes = 0;

	if (text_has_prefix(v, "https://") || text_has_prefix(v, "http://"))
		path = strstr(v, "://") + 3;
	for (const char *c = path; *c != '\0'; c++) {
		if (!isalnum((unsigned char)*c) && strchr("-._/~:", *c) == NULL)
			return false;
		slashes += *c == '/';
	}
	return slashes >= 1 && slashes <= 8 && path[0] != '/' && path[strlen(path) - 1] != '/' &&
	       strstr(path, "//") == NULL && strlen(v) <= 500;
}

/* "opus[effort=high,x=y]" */
static bool take_model(struct trigger_options *o, const char *v)
{
	size_t n = strcspn(v, "[");
	json_t *params = json_array();

	if (n == 0 || n > 200 || (v[n] == '[' && v[strlen(v) - 1] != ']')) {
		json_drop(&params);
		return false;
	}
	for (const char *at = v + n; *at == '[' || *at == ',';) {
		size_t k = strcspn(++at, "=,]"), l;

		if (at[k] != '=' || k == 0) {
			json_drop(&params);
			return false;
		}
		l = strcspn(at + k + 1, ",]");
		json_array_append_new(
		    params, json_pack("{s:o, s:o}", "id", json_stringn(at, k), "value", json_stringn(at + k + 1, l)));
		at += k + 1 + l;
	}
	str_free(&o->model);
	o->model = str_ndup(v, n);
	json_drop(&o->model_params);
	o->model_params = params;
	return true;
}

static void set_repo(struct trigger_options *o, const char *v)
{
	str_free(&o->repo);
	o->repo = text_has_suffix(v, ".git") ? str_ndup(v, strlen(v) - 4) : str_dup(v);
}

static bool is_line_of(const char *v, size_t max)
{
	for (const char *c = v; *c != '\0'; c++)
		if ((unsigned char)*c < ' ' || *c == 0x7f)
			return false;
	return v[0] != '\0' && strlen(v) <= max;
}

struct key_name {
	const char *name;
	unsigned key;
	bool legacy;
};

static const struct key_name names[] = {{"self_hosted", TRIGGER_SELF_HOSTED, false}, {"sh", TRIGGER_SELF_HOSTED, false},
    {"selfhosted", TRIGGER_SELF_HOSTED, true}, {"private_worker", TRIGGER_SELF_HOSTED, true},
    {"useprivateworker", TRIGGER_SELF_HOSTED, true}, {"useprivateworkers", TRIGGER_SELF_HOSTED, true},
    {"pool", TRIGGER_POOL, false}, {"worker", TRIGGER_WORKER, false}, {"machine", TRIGGER_WORKER, false},
    {"repo", TRIGGER_REPO, false}, {"env", TRIGGER_ENV, false}, {"environment", TRIGGER_ENV, false},
    {"branch", TRIGGER_BRANCH, false}, {"model", TRIGGER_MODEL, false}, {"autopr", TRIGGER_AUTOPR, false},
    {"channel", TRIGGER_CHANNEL, false}};

/* 0: stays text. */
static unsigned key_of(const struct reading *r, const char *key)
{
	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcasecmp(names[i].name, key) == 0 && !(names[i].legacy && r->t->strict))
			return names[i].key & r->t->keys;
	return 0;
}

/* ERR_EMPTY: it stays text. */
static int take_value(struct reading *r, const char *key, const char *v)
{
	struct trigger_options *o = r->o;

	switch (key_of(r, key)) {
	case TRIGGER_SELF_HOSTED:
		if (!is_one_of(v, yes) && !is_one_of(v, no))
			return ERR_EMPTY;
		o->self_hosted = is_one_of(v, yes);
		return OK;
	case TRIGGER_POOL:
		if (!is_pool(v))
			return bad_value(r, "pool", v, "gpu");
		str_set(&o->pool, v);
		return OK;
	case TRIGGER_WORKER:
		if (!is_line_of(v, 128))
			return bad_value(r, "worker", v, "my-laptop");
		str_set(&o->worker, v);
		return OK;
	case TRIGGER_REPO:
		if (!trigger_is_repo(v))
			return bad_value(r, "repo", v, "owner/name");
		set_repo(o, v);
		return OK;
	case TRIGGER_ENV:
		if (!is_line_of(v, 200))
			return bad_value(r, "env", v, "Platform");
		str_set(&o->env, v);
		return OK;
	case TRIGGER_BRANCH:
		if (!text_is_git_ref(v) || v[0] == '-' || strlen(v) > 255)
			return bad_value(r, "branch", v, "main");
		str_set(&o->branch, v);
		return OK;
	case TRIGGER_MODEL:
		return take_model(o, v) ? OK : bad_value(r, "model", v, "opus or opus[effort=high]");
	case TRIGGER_AUTOPR:
		if (!is_one_of(v, yes_too) && !is_one_of(v, no_too))
			return bad_value(r, "autopr", v, "true");
		o->autopr = is_one_of(v, yes_too);
		return OK;
	case TRIGGER_CHANNEL:
		if (!is_line_of(v, 100))
			return bad_value(r, "channel", v, "#builds");
		str_set(&o->channel, v);
		return OK;
	default:
		return ERR_EMPTY;
	}
}

/* The value that begins at `at`, malloc'ed; *ret_end is behind it. NULL: there is none. */
static char *value_at(const struct reading *r, size_t at, bool bracket, size_t *ret_end)
{
	struct strbuf b = STRBUF(4096);
	size_t end = at, depth = 0;

	if (r->text[at] == '"') {
		for (end = at + 1; r->text[end] != '"'; end++) {
			if (r->text[end] == '\0' || r->text[end] == '\n') {
				strbuf_fini(&b);
				return NULL;
			}
			if (r->text[end] == '\\' && r->text[end + 1] == '"')
				end++;
			IGNORE(strbuf_addc(&b, r->text[end]));
		}
		*ret_end = end + 1;
		return strbuf_take(&b);
	}
	/* model=opus[effort=high] has brackets of its own. */
	while (r->text[end] != '\0' && !isspace((unsigned char)r->text[end])) {
		if (r->text[end] == '[')
			depth++;
		if (r->text[end] == ']' && depth-- == 0) {
			if (bracket)
				break;
			depth = 0;
		}
		end++;
	}
	while (!bracket && end > at && strchr(",;.)", r->text[end - 1]) != NULL)
		end--;
	*ret_end = end;
	return end > at ? str_ndup(r->text + at, end - at) : NULL;
}

/* An option at `at`? *ret_end: behind it, 0: there is none. */
static int option_at(struct reading *r, size_t at, size_t *ret_end)
{
	bool bracket = r->text[at] == '[';
	size_t begin = bracket ? at + 1 + strspn(r->text + at + 1, " \t") : at, end = begin;
	char key[KEY_MAX];
	AUTO_STR value = NULL;
	int rc;

	*ret_end = 0;
	while (isalpha((unsigned char)r->text[end]) || (r->text[end] == '_' && end > begin))
		end++;
	if (end == begin || r->text[end] != '=' || end - begin >= sizeof key)
		return OK;
	snprintf(key, sizeof key, "%.*s", (int)(end - begin), r->text + begin);
	value = value_at(r, end + 1, bracket, &end);
	if (value == NULL)
		return OK;
	if (bracket) {
		end += strspn(r->text + end, " \t");
		if (r->text[end] != ']')
			return OK;
		end++;
	}
	rc = take_value(r, key, value);
	if (rc == OK)
		*ret_end = end;
	return rc == ERR_EMPTY ? OK : rc;
}

/* The older wording: a word alone opts in, but only among the options right behind the mention. */
static size_t bare_word_at(struct reading *r, size_t at)
{
	static const char *const words[] = {"self_hosted", "selfhosted", "useprivateworker"};

	if (r->t->strict || (r->t->keys & TRIGGER_SELF_HOSTED) == 0)
		return 0;
	for (size_t i = 0; i < ARRAY_LEN(words); i++) {
		size_t n = strlen(words[i]);

		if (strncasecmp(r->text + at, words[i], n) != 0)
			continue;
		if (r->text[at + n] == '\0' || isspace((unsigned char)r->text[at + n])) {
			r->o->self_hosted = 1;
			return at + n;
		}
	}
	return 0;
}

static bool may_begin(const struct reading *r, size_t at)
{
	return at == 0 || isspace((unsigned char)r->text[at - 1]) || strchr("(,;", r->text[at - 1]) != NULL ||
	       r->kind[at - 1] == GONE;
}

static int find_options(struct reading *r, size_t leading_from)
{
	size_t leading = leading_from; /* where the run of options behind the mention goes on */

	for (size_t at = 0; at < r->len;) {
		size_t end = 0;
		int rc = OK;

		if (r->kind[at] != PLAIN || !may_begin(r, at)) {
			at++;
			continue;
		}
		rc = option_at(r, at, &end);
		if (rc != OK)
			return rc;
		if (end == 0 &&
		    (at == leading + strspn(r->text + leading, " \t\r\n") || at == strspn(r->text, " \t\r\n")))
			end = bare_word_at(r, at);
		if (end == 0) {
			at++;
			continue;
		}
		if (at == leading + strspn(r->text + leading, " \t\r\n"))
			leading = end;
		mark(r, at, end, GONE);
		at = end;
	}
	return OK;
}

/* What was taken out leaves no hole: blanks beside it become one, and a comma or a bracket that held it goes, too. */
static char *prompt_of(const struct reading *r)
{
	struct strbuf b = STRBUF(TEXT_MAX);
	bool hole = false, any = false;

	for (size_t at = 0; at < r->len; at++) {
		char c = r->text[at];

		if (r->kind[at] == GONE) {
			hole = any = true;
			continue;
		}
		if (hole) {
			bool blank_before = b.len == 0 || isspace((unsigned char)b.data[b.len - 1]);

			if (blank_before && (c == ',' || c == ';' || c == '.'))
				continue;
			if (blank_before && (c == ' ' || c == '\t'))
				continue;
			if ((c == '\n' || c == ')') && b.len > 0 &&
			    (b.data[b.len - 1] == ' ' || b.data[b.len - 1] == '\t'))
				b.len--;
			hole = false;
		}
		IGNORE(strbuf_addc(&b, c));
	}
	if (!any)
		return strbuf_take(&b);
	AUTO_STR text = strbuf_take(&b);

	return text_trim(text);
}

static int check_together(const struct trigger_options *o, struct why *why)
{
	if (o->pool != NULL && o->self_hosted == 0)
		return why_set(
		    why, ERR_INVALID, "These options exclude each other: pool=%s and self_hosted=false.", o->pool);
	if (o->pool != NULL && o->worker != NULL)
		return why_set(
		    why, ERR_INVALID, "These options exclude each other: pool=%s and worker=%s.", o->pool, o->worker);
	if (o->worker != NULL && o->self_hosted == 0)
		return why_set(
		    why, ERR_INVALID, "These options exclude each other: worker=%s and self_hosted=false.", o->worker);
	return OK;
}

int trigger_options_read(const struct trigger_text *t, struct trigger_options *ret, struct why *why)
{
	struct reading r = {.t = t, .text = str_dup(t->text), .len = strlen(t->text), .o = ret, .why = why};
	size_t at = 0, n = 0;
	int rc = OK;

	*ret = (struct trigger_options){.self_hosted = -1, .autopr = -1};
	if (r.len > TEXT_MAX) {
		free(r.text);
		return why_set(why, ERR_INVALID, "This message is too long.");
	}
	plain_quotes(&r);
	r.kind = mem_zalloc(r.len + 1);
	mark_lines(&r);
	mark_between(&r, "<!--", "-->", t->drops_comments ? GONE : CODE);
	mark_between(&r, "<pre", "</pre>", CODE);
	mark_between(&r, "<code", "</code>", CODE);
	if (t->mentions != NULL) {
		n = find_mention(&r, &at);
		if (n == 0)
			rc = ERR_EMPTY;
		mark(&r, at, at + n, GONE);
	}
	if (rc == OK)
		rc = find_options(&r, at + n);
	if (rc == OK)
		rc = check_together(ret, why);
	if (rc == OK)
		ret->prompt = prompt_of(&r);
	free(r.kind);
	free(r.text);
	return rc;
}
