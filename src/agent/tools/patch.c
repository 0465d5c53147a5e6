#include "agent/tools/patch.h"
#include "agent/tools/text_lines.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

/* Comparisons of lines: a file of equal lines makes many places look right for long. */
#define MAX_COMPARISONS 50000000
#define SHOWN_BYTES 120
#define NOWHERE SIZE_MAX

struct text_line {
	const char *s; /* without line end */
	size_t len;
};

struct applying {
	const struct patch *p;
	const char *text;
	struct text_line *v;
	size_t n, cap;
	bool last_open; /* the last line has no newline */
	size_t next; /* first line that no hunk has passed */
	bool narrowed; /* an anchor alone led there */
	int64_t drift; /* how far the last hunk was from its stated number */
	int64_t budget;
	struct strbuf out;
	bool open_end; /* what was put out last has no newline */
	/* Where the hunk at hand fitted best, for the message. */
	size_t best_at, best_run;
	struct refusal *r;
};

static void patch_split(struct applying *a)
{
	for (const char *at = a->text; *at != '\0';) {
		size_t n = strcspn(at, "\n");

		a->v = mem_grow(a->v, &a->cap, a->n + 1, sizeof *a->v);
		a->v[a->n++] = (struct text_line){at, n};
		a->last_open = at[n] == '\0';
		at += n + (at[n] == '\n');
	}
}

static bool patch_same(const struct text_line *l, const struct patch_line *p)
{
	return l->len == p->len && memcmp(l->s, p->s, l->len) == 0;
}

static size_t old_lines(const struct patch *p, const struct patch_hunk *h)
{
	size_t n = 0;

	for (size_t i = 0; i < h->n; i++)
		n += p->lines[h->first + i].op != PATCH_ADD;
	return n;
}

/* Whether the hunk's old lines are at line `at` (from 0). */
static bool patch_fits(struct applying *a, const struct patch_hunk *h, size_t at)
{
	size_t line = at;

	for (size_t i = 0; i < h->n; i++) {
		const struct patch_line *p = &a->p->lines[h->first + i];

		if (p->op == PATCH_ADD)
			continue;
		if (--a->budget < 0 || line >= a->n || !patch_same(&a->v[line], p)) {
			if (line - at > a->best_run) {
				a->best_run = line - at;
				a->best_at = at;
			}
			return false;
		}
		line++;
	}
	return !h->at_end || line == a->n;
}

static const struct patch_line *nth_old_line(const struct patch *p, const struct patch_hunk *h, size_t n)
{
	for (size_t i = 0; i < h->n; i++)
		if (p->lines[h->first + i].op != PATCH_ADD && n-- == 0)
			return &p->lines[h->first + i];
	return NULL;
}

/* What a person does not see in the two lines. */
static const char *line_end_note(const struct text_line *l, const struct patch_line *p)
{
	size_t n = l->len, m = p->len;

	n -= n > 0 && l->s[n - 1] == '\r';
	m -= m > 0 && p->s[m - 1] == '\r';
	if (n != m || memcmp(l->s, p->s, n) != 0)
		return "";
	return ": they differ only in their line ends, the file has both CRLF and LF";
}

static int refuse_unfit(struct applying *a, const struct patch_hunk *h)
{
	size_t number = (size_t)(h - a->p->hunks) + 1, at, len;
	const struct patch_line *wanted = nth_old_line(a->p, h, a->best_run);
	const char *line;
	AUTO_STR first = NULL;

	if (a->budget < 0)
		return refuse(
		    a->r, "too_large", "hunk %zu: there is too much to compare; give more lines around it", number);
	if (a->best_run > 0 && wanted != NULL) {
		size_t there = a->best_at + a->best_run;

		if (there >= a->n)
			return refuse(a->r, "no_match", "hunk %zu fits at line %zu, but the file ends before '%.*s'",
			    number, a->best_at + 1, (int)text_utf8_cut(wanted->s, wanted->len, SHOWN_BYTES), wanted->s);
		return refuse(a->r, "no_match",
		    "hunk %zu fits at line %zu as far as line %zu, which is '%.*s', not '%.*s'%s", number,
		    a->best_at + 1, there + 1, (int)text_utf8_cut(a->v[there].s, a->v[there].len, SHOWN_BYTES),
		    a->v[there].s, (int)text_utf8_cut(wanted->s, wanted->len, SHOWN_BYTES), wanted->s,
		    line_end_note(&a->v[there], wanted));
	}
	first = wanted != NULL ? str_ndup(wanted->s, wanted->len) : str_dup("");
	if (!text_nearest_line(a->text, first, &at, &line, &len))
		return refuse(a->r, "no_match",
		    "hunk %zu was not found in the file, nor anything like it; read the file again", number);
	return refuse(a->r, "no_match",
	    "hunk %zu was not found in the file; nearest to its first line is line %zu: %.*s", number, at,
	    (int)text_utf8_cut(line, len, SHOWN_BYTES), line);
}

/* The line behind the first anchor, NOWHERE if the file has none from the next line on. White space around it does not
 * count: it is not what changes. */
static size_t behind_anchor(struct applying *a, const struct patch_hunk *h, bool *ret_sure)
{
	size_t found = NOWHERE;
	AUTO_STR raw = str_ndup(h->anchor, h->anchor_len);
	AUTO_STR anchor = text_trim(raw);
	size_t n = strlen(anchor);

	*ret_sure = true;
	for (size_t i = a->next; i < a->n && --a->budget >= 0; i++) {
		const char *s = a->v[i].s, *end = s + a->v[i].len;

		while (s < end && (*s == ' ' || *s == '\t'))
			s++;
		while (end > s && (end[-1] == ' ' || end[-1] == '\t' || end[-1] == '\r'))
			end--;
		if ((size_t)(end - s) != n || memcmp(s, anchor, n) != 0)
			continue;
		if (found == NOWHERE)
			found = i + 1;
		else
			*ret_sure = false;
		if (a->narrowed || !*ret_sure)
			break;
	}
	return found;
}

/* With no old lines there is nothing to look for: the number, the anchor or the end says where. */
static int place_insertion(struct applying *a, const struct patch_hunk *h, size_t from, size_t *ret)
{
	int64_t at = (int64_t)h->old_start + a->drift;

	if (h->anchor != NULL)
		*ret = from;
	else if (!h->numbered)
		*ret = a->n;
	else if (h->inserts && at >= (int64_t)from && at <= (int64_t)a->n)
		*ret = (size_t)at;
	else
		return refuse(a->r, "no_match", "hunk %zu has no context and its line is not in the file",
		    (size_t)(h - a->p->hunks) + 1);
	return OK;
}

static int place_hunk(struct applying *a, const struct patch_hunk *h, size_t *ret)
{
	size_t from = a->next, n_old = old_lines(a->p, h), found = NOWHERE, n_found = 0;
	int64_t stated = (int64_t)h->old_start - 1 + a->drift;
	bool first_will_do = false;

	if (h->anchor != NULL && (from = behind_anchor(a, h, &first_will_do)) == NOWHERE)
		return a->budget < 0 ? refuse_unfit(a, h)
				     : refuse(a->r, "no_match", "hunk %zu: there is no line '%.*s'",
					   (size_t)(h - a->p->hunks) + 1,
					   (int)text_utf8_cut(h->anchor, h->anchor_len, SHOWN_BYTES), h->anchor);
	if (n_old == 0)
		return place_insertion(a, h, from, ret);
	a->best_run = 0;
	if (h->numbered && stated >= (int64_t)from && stated < (int64_t)a->n && patch_fits(a, h, (size_t)stated)) {
		*ret = (size_t)stated;
		return OK;
	}
	for (size_t i = from; i < a->n && n_found < (first_will_do ? 1 : 2) && a->budget >= 0; i++)
		if (patch_fits(a, h, i)) {
			found = n_found == 0 ? i : found;
			n_found++;
		}
	if (n_found > 1)
		return refuse(a->r, "not_unique", "hunk %zu fits at more than one place; give more lines around it",
		    (size_t)(h - a->p->hunks) + 1);
	if (n_found == 0 || a->budget < 0)
		return refuse_unfit(a, h);
	*ret = found;
	return OK;
}

static void put(struct applying *a, const char *s, size_t len, bool open)
{
	if (a->open_end)
		strbuf_addc(&a->out, '\n');
	strbuf_add(&a->out, s, len);
	if (!open)
		strbuf_addc(&a->out, '\n');
	a->open_end = open;
}

static void put_old(struct applying *a, size_t i)
{
	ENSURE(i < a->n);
	put(a, a->v[i].s, a->v[i].len, i + 1 == a->n && a->last_open);
}

static int apply_hunk(struct applying *a, const struct patch_hunk *h)
{
	size_t at = 0;
	int rc = OK;

	/* Without lines it is only an anchor, as "@@ class" before "@@ method". */
	if (h->n == 0 && h->anchor == NULL)
		return OK;
	rc = place_hunk(a, h, &at);
	if (rc != OK)
		return rc;
	a->narrowed = h->n == 0;
	if (h->numbered && old_lines(a->p, h) > 0)
		a->drift = (int64_t)at - ((int64_t)h->old_start - 1);
	while (a->next < at)
		put_old(a, a->next++);
	for (size_t i = 0; i < h->n; i++) {
		const struct patch_line *l = &a->p->lines[h->first + i];

		if (l->op == PATCH_ADD)
			put(a, l->s, l->len, l->no_newline);
		else if (l->op == PATCH_KEEP)
			put_old(a, a->next++);
		else
			a->next++;
	}
	return OK;
}

static int apply_all(struct applying *a)
{
	for (size_t i = 0; i < a->p->n_hunks; i++) {
		int rc = apply_hunk(a, &a->p->hunks[i]);

		if (rc != OK)
			return rc;
	}
	while (a->next < a->n)
		put_old(a, a->next++);
	if (a->out.overflowed)
		return refuse(a->r, "too_large", "the file would have more than %zu bytes", a->out.max);
	return OK;
}

int patch_apply(const struct patch *p, const char *text, size_t max, char **ret, struct refusal *r)
{
	bool crlf = text_is_crlf(text);
	AUTO_STR lf = crlf ? text_to_lf(text) : str_dup(text);
	struct applying a = {.p = p, .text = lf, .budget = MAX_COMPARISONS, .out = STRBUF(max), .r = r};
	int rc;

	patch_split(&a);
	rc = apply_all(&a);
	free(a.v);
	if (rc == OK) {
		AUTO_STR done = strbuf_take(&a.out);

		*ret = crlf ? text_to_crlf(done) : TAKE(done);
	}
	strbuf_fini(&a.out);
	return rc;
}
