/* Patterns are translated into regular expressions of PCRE2, which is run with a limit on its steps.
 *
 * PCRE2 does not say how many steps a match took, only whether there were too many. So a match is tried with a small
 * limit first and, if that is too small, with larger ones, each of which is charged. What is done is at most
 * TIER_FACTOR times what the budget says, and an ordinary pattern costs next to nothing. */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "agent/session/glob.h"
#include "base/errors.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <pcre2.h>
#include <pthread.h>
#include <string.h>

#define NESTING_MAX 64
#define FIRST_TIER 1000
#define TIER_FACTOR 16
#define HEAP_MAX_KIB 4096
/* Looking at so many bytes is a step too. */
#define BYTES_A_STEP 32

struct glob {
	pcre2_code *code; /* NULL: matches nothing */
	int cost; /* of translating, paid by the first budget */
};

/* Of PCRE2, for one thread: its memory for backtracking is 20 KiB, too much for each pattern. Freed with the thread. */
struct scratch {
	pcre2_match_data *data;
	pcre2_match_context *context;
};

static pthread_key_t scratch_key;
static pthread_once_t scratch_once = PTHREAD_ONCE_INIT;

static void free_scratch(void *arg)
{
	struct scratch *s = arg;

	pcre2_match_data_free(s->data);
	pcre2_match_context_free(s->context);
	free(s);
}

static void make_scratch_key(void)
{
	ENSURE(pthread_key_create(&scratch_key, free_scratch) == 0);
}

static struct scratch *scratch_of_thread(void)
{
	struct scratch *s;

	pthread_once(&scratch_once, make_scratch_key);
	s = pthread_getspecific(scratch_key);
	if (s != NULL)
		return s;
	s = NEW(struct scratch);
	s->data = pcre2_match_data_create(1, NULL);
	s->context = pcre2_match_context_create(NULL);
	ENSURE(s->data != NULL && s->context != NULL); /* memory */
	pcre2_set_heap_limit(s->context, HEAP_MAX_KIB);
	ENSURE(pthread_setspecific(scratch_key, s) == 0);
	return s;
}

/* A pattern on its way. close[i]: for a '{' that has one, the place of its '}'; else 0. */
struct translation {
	const char *pattern;
	uint16_t close[GLOB_PATTERN_MAX];
	struct strbuf out;
};

static void add_literal(struct strbuf *out, char c)
{
	if (c >= ' ' && c <= '~')
		strbuf_addf(out, strchr("\\^$.[]|()?*+{}/-", c) != NULL ? "\\%c" : "%c", c);
	else
		strbuf_addf(out, "\\x%02x", (unsigned char)c);
}

/* Behind "[..]" at i, or 0 if it has no end before `end`. It never matches a slash; one that starts with '!' or '^' is
 * negated, and a ']' that comes first is a member. */
static size_t class_end(const struct translation *t, size_t i, size_t end)
{
	size_t first = i + 1 + (i + 1 < end && (t->pattern[i + 1] == '!' || t->pattern[i + 1] == '^'));
	const char *close = first + 1 < end ? memchr(t->pattern + first + 1, ']', end - first - 1) : NULL;

	return close != NULL ? (size_t)(close - t->pattern) + 1 : 0;
}

static void add_class(struct translation *t, size_t i, size_t behind)
{
	const char *p = t->pattern;
	bool negated = p[i + 1] == '!' || p[i + 1] == '^', empty = true;
	size_t last = behind - 1; /* the ']' */
	struct strbuf *out = &t->out;

	strbuf_adds(out, negated ? "[^\\/" : "(?!\\/)[");
	for (size_t k = i + 1 + negated; k < last; k++) {
		unsigned char from = (unsigned char)p[k], to = from;

		if (k + 2 < last && p[k + 1] == '-') {
			to = (unsigned char)p[k + 2];
			k += 2;
		}
		if (from > to) /* "z-a" has no member */
			continue;
		strbuf_addf(out, "\\x%02x-\\x%02x", from, to);
		empty = false;
	}
	/* PCRE2 knows no class without members: a NUL is in no path. */
	strbuf_adds(out, empty && !negated ? "\\x00]" : "]");
}

/* Behind the stars at i. */
static size_t add_stars(struct translation *t, size_t i, size_t end)
{
	size_t behind = i;

	while (behind < end && t->pattern[behind] == '*')
		behind++;
	if (behind - i >= 2 && t->pattern[behind] == '/' && behind < end) {
		strbuf_adds(&t->out, "(?:[^\\/]*\\/)*"); /* whole folders, or none */
		return behind + 1;
	}
	strbuf_adds(&t->out, behind - i >= 2 ? ".*" : "[^\\/]*");
	return behind;
}

static int add_part(struct translation *t, size_t from, size_t end, unsigned depth);

/* The group whose '{' is at `open`: its alternatives, each by itself. */
static int add_braces(struct translation *t, size_t open, unsigned depth)
{
	size_t close = t->close[open], from = open + 1;
	int rc = OK;

	strbuf_adds(&t->out, "(?:");
	for (size_t i = from; rc == OK && i <= close; i++) {
		if (i < close && t->pattern[i] == '\\') {
			i++;
		} else if (i < close && t->pattern[i] == '{' && t->close[i] != 0) {
			i = t->close[i];
		} else if (i == close || t->pattern[i] == ',') {
			rc = add_part(t, from, i, depth + 1);
			strbuf_adds(&t->out, i < close ? "|" : ")");
			from = i + 1;
		}
	}
	return rc;
}

/* pattern[from, end). ERR_TOO_LARGE: nested too deep. */
static int add_part(struct translation *t, size_t from, size_t end, unsigned depth)
{
	const char *p = t->pattern;
	int rc = OK;

	if (depth > NESTING_MAX)
		return ERR_TOO_LARGE;
	for (size_t i = from; rc == OK && i < end;) {
		size_t behind;

		if (p[i] == '*') {
			i = add_stars(t, i, end);
		} else if (p[i] == '?') {
			strbuf_adds(&t->out, "[^\\/]");
			i++;
		} else if (p[i] == '{' && t->close[i] != 0) {
			rc = add_braces(t, i, depth);
			i = (size_t)t->close[i] + 1;
		} else if (p[i] == '[' && (behind = class_end(t, i, end)) != 0) {
			add_class(t, i, behind);
			i = behind;
		} else {
			i += p[i] == '\\' && i + 1 < end;
			add_literal(&t->out, p[i++]);
		}
	}
	return rc;
}

/* A '{' without its '}' is a literal, and so is a '}' alone. */
static void pair_braces(struct translation *t, size_t len)
{
	uint16_t *open = mem_alloc(GLOB_PATTERN_MAX * sizeof *open);
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		if (t->pattern[i] == '\\')
			i++;
		else if (t->pattern[i] == '{')
			open[n++] = (uint16_t)i;
		else if (t->pattern[i] == '}' && n > 0)
			t->close[open[--n]] = (uint16_t)i;
	}
	free(open);
}

static pcre2_code *compile(const char *pattern, size_t len)
{
	struct translation *t = NEW(struct translation);
	pcre2_code *code = NULL;
	int error;
	PCRE2_SIZE at;

	t->pattern = pattern;
	t->out = STRBUF(32 * GLOB_PATTERN_MAX);
	pair_braces(t, len);
	if (add_part(t, 0, len, 0) == OK && !t->out.overflowed)
		code = pcre2_compile((PCRE2_SPTR)strbuf_str(&t->out), t->out.len,
		    PCRE2_ANCHORED | PCRE2_ENDANCHORED | PCRE2_DOTALL | PCRE2_NO_AUTO_CAPTURE, &error, &at, NULL);
	strbuf_fini(&t->out);
	free(t);
	return code;
}

struct glob *glob_new(const char *pattern)
{
	struct glob *g = NEW(struct glob);
	size_t len = strlen(pattern);

	g->cost = (int)MIN(1 + len / BYTES_A_STEP, (size_t)GLOB_STEPS);
	if (len < GLOB_PATTERN_MAX)
		g->code = compile(pattern, len);
	else
		g->cost = GLOB_STEPS;
	return g;
}

void glob_free(struct glob **gp)
{
	struct glob *g = TAKE(*gp);

	if (g == NULL)
		return;
	pcre2_code_free(g->code);
	free(g);
}

static void spend(int *budget, size_t steps)
{
	*budget -= (int)MIN(steps, (size_t)MAX(*budget, 0));
}

static bool is_limit(int rc)
{
	return rc == PCRE2_ERROR_MATCHLIMIT || rc == PCRE2_ERROR_DEPTHLIMIT || rc == PCRE2_ERROR_HEAPLIMIT;
}

bool glob_test(const struct glob *g, const char *path, int *budget)
{
	struct scratch *s = scratch_of_thread();
	size_t len = strlen(path);
	int rc;

	if (*budget <= 0)
		return false;
	spend(budget, (size_t)g->cost + len / BYTES_A_STEP);
	if (g->code == NULL)
		return false;
	for (int tier = FIRST_TIER;; tier *= TIER_FACTOR) {
		int limit = MIN(tier, *budget);

		if (limit <= 0)
			return false;
		pcre2_set_match_limit(s->context, (uint32_t)limit);
		rc = pcre2_match(g->code, (PCRE2_SPTR)path, len, 0, 0, s->data, s->context);
		if (!is_limit(rc))
			return rc >= 0;
		spend(budget, (size_t)limit);
	}
}

bool glob_matches_within(const char *pattern, const char *path, int *budget)
{
	AUTO(glob) g = *budget > 0 ? glob_new(pattern) : NULL;

	return g != NULL && glob_test(g, path, budget);
}

bool glob_matches(const char *pattern, const char *path)
{
	int budget = GLOB_STEPS;

	return glob_matches_within(pattern, path, &budget);
}
