#include "agent/tools/diff.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <string.h>

/* The trace needs memory of the square of this. */
#define MAX_EDITS 1000
#define CONTEXT 3

struct diff_line {
	const char *s;
	size_t len; /* with its line end */
};

struct lines {
	struct diff_line *v;
	size_t n, cap;
};

struct diff_problem {
	struct lines a, b;
	bool *gone, *fresh; /* lines of a that went, lines of b that came */
};

static void diff_split(struct lines *l, const char *s, size_t len)
{
	const char *end = s + len;

	while (s < end) {
		const char *nl = memchr(s, '\n', (size_t)(end - s));
		size_t n = nl != NULL ? (size_t)(nl + 1 - s) : (size_t)(end - s);

		l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
		l->v[l->n++] = (struct diff_line){s, n};
		s += n;
	}
}

static bool diff_same(const struct diff_problem *p, size_t i, size_t j)
{
	const struct diff_line *a = &p->a.v[i], *b = &p->b.v[j];

	return a->len == b->len && memcmp(a->s, b->s, a->len) == 0;
}

/* The furthest points after d edits: values of x on the diagonals k = x - y from -d to d, -1 where none can be. */
static long at(const int *v, long d, long k)
{
	return v == NULL || k < -d || k > d ? -1 : v[k + d];
}

/* Where the last of d edits led to on diagonal k: a line of b more (down), or one of a less. -1: nowhere. */
static long diff_step(const int *before, long d, long k, long n, long m, bool *ret_down)
{
	long down = at(before, d - 1, k + 1), right = at(before, d - 1, k - 1);

	if (down - k > m)
		down = -1;
	right = right < 0 || right >= n ? -1 : right + 1;
	*ret_down = down >= 0 && down >= right;
	return MAX(down, right);
}

static void backtrack(struct diff_problem *p, size_t a0, size_t b0, long n, long m, int **trace, long d)
{
	long k = n - m;

	for (; d > 0; d--) {
		bool down;
		long x = diff_step(trace[d - 1], d, k, n, m, &down);

		if (down)
			p->fresh[b0 + (size_t)(x - k - 1)] = true;
		else
			p->gone[a0 + (size_t)(x - 1)] = true;
		k += down ? 1 : -1;
	}
}

/* True if it was solved within MAX_EDITS. The ranges start at a0, b0 and have n and m lines. */
static bool myers(struct diff_problem *p, size_t a0, long n, size_t b0, long m)
{
	int **trace = mem_zalloc((MAX_EDITS + 1) * sizeof *trace);
	bool solved = false;

	for (long d = 0; d <= MAX_EDITS && !solved; d++) {
		int *v = trace[d] = mem_alloc((size_t)(2 * d + 1) * sizeof *v);

		memset(v, -1, (size_t)(2 * d + 1) * sizeof *v);
		for (long k = -d; k <= d && !solved; k += 2) {
			bool down;
			long x = d == 0 ? 0 : diff_step(trace[d - 1], d, k, n, m, &down);

			if (x < 0)
				continue;
			while (x < n && x - k < m && diff_same(p, a0 + (size_t)x, b0 + (size_t)(x - k)))
				x++;
			v[k + d] = (int)x;
			solved = x == n && x - k == m;
		}
		if (solved)
			backtrack(p, a0, b0, n, m, trace, d);
	}
	for (long d = 0; d <= MAX_EDITS; d++)
		free(trace[d]);
	free(trace);
	return solved;
}

static void solve(struct diff_problem *p)
{
	size_t head = 0, tail = 0, shorter = MIN(p->a.n, p->b.n);

	while (head < shorter && diff_same(p, head, head))
		head++;
	while (tail < shorter - head && diff_same(p, p->a.n - 1 - tail, p->b.n - 1 - tail))
		tail++;
	if (myers(p, head, (long)(p->a.n - head - tail), head, (long)(p->b.n - head - tail)))
		return;
	for (size_t i = head; i < p->a.n - tail; i++)
		p->gone[i] = true;
	for (size_t j = head; j < p->b.n - tail; j++)
		p->fresh[j] = true;
}

static void put_line(struct strbuf *out, char sign, const struct diff_line *l)
{
	strbuf_addc(out, sign);
	strbuf_add(out, l->s, l->len);
	if (l->len == 0 || l->s[l->len - 1] != '\n')
		strbuf_adds(out, "\n\\ No newline at end of file\n");
}

static void put_hunk(struct strbuf *out, const struct diff_problem *p, size_t i, size_t i_end, size_t j, size_t j_end)
{
	size_t n = i_end - i, m = j_end - j;

	strbuf_addf(out, "@@ -%zu,%zu +%zu,%zu @@\n", n > 0 ? i + 1 : i, n, m > 0 ? j + 1 : j, m);
	while (i < i_end || j < j_end) {
		if (i < i_end && p->gone[i])
			put_line(out, '-', &p->a.v[i++]);
		else if (j < j_end && p->fresh[j])
			put_line(out, '+', &p->b.v[j++]);
		else {
			put_line(out, ' ', &p->a.v[i++]);
			j++;
		}
	}
}

/* Moves over equal lines; how many there were. */
static size_t skip_equal(const struct diff_problem *p, size_t *i, size_t *j, size_t max)
{
	size_t n = 0;

	while (n < max && *i < p->a.n && *j < p->b.n && !p->gone[*i] && !p->fresh[*j]) {
		(*i)++;
		(*j)++;
		n++;
	}
	return n;
}

static void put_hunks(struct strbuf *out, const struct diff_problem *p)
{
	size_t i = 0, j = 0;

	for (;;) {
		size_t equal_before = skip_equal(p, &i, &j, SIZE_MAX), lead = MIN(equal_before, CONTEXT);
		size_t i0 = i - lead, j0 = j - lead;

		if (i == p->a.n && j == p->b.n)
			return;
		for (;;) {
			size_t before_i, before_j, equal;

			while (i < p->a.n && p->gone[i])
				i++;
			while (j < p->b.n && p->fresh[j])
				j++;
			before_i = i;
			before_j = j;
			equal = skip_equal(p, &i, &j, 2 * CONTEXT + 1);
			/* Changes close to each other share a hunk. */
			if (equal <= 2 * CONTEXT && (i < p->a.n || j < p->b.n))
				continue;
			i = before_i + MIN(equal, CONTEXT);
			j = before_j + MIN(equal, CONTEXT);
			break;
		}
		put_hunk(out, p, i0, i, j0, j);
	}
}

void diff_make(const char *old, size_t old_len, const char *new, size_t new_len, struct diff *ret)
{
	struct diff_problem p = {0};
	struct strbuf out = STRBUF(2 * (old_len + new_len) + 4096);

	diff_split(&p.a, old, old_len);
	diff_split(&p.b, new, new_len);
	p.gone = mem_zalloc(p.a.n + 1);
	p.fresh = mem_zalloc(p.b.n + 1);
	solve(&p);
	*ret = (struct diff){0};
	for (size_t i = 0; i < p.a.n; i++)
		ret->removed += p.gone[i];
	for (size_t j = 0; j < p.b.n; j++)
		ret->added += p.fresh[j];
	put_hunks(&out, &p);
	ret->text = strbuf_take(&out);
	free(p.a.v);
	free(p.b.v);
	free(p.gone);
	free(p.fresh);
}

void diff_fini(struct diff *d)
{
	str_free(&d->text);
}
