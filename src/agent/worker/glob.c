#include "agent/worker/glob.h"
#include "base/mem.h"
#include <string.h>

#define MAX_DEPTH 64

static bool match(const char *p, const char *s, int depth, int *budget);

/* Looking at so many bytes of a pattern, or copying them, is a step too. */
#define BYTES_A_STEP 32

static void charge(int *budget, const char *from, const char *to)
{
	*budget -= (int)MIN((to - from) / BYTES_A_STEP, (ptrdiff_t)GLOB_STEPS);
}

/* "[a-z]" at p against one byte. Returns behind the class, NULL if it has no end. */
static const char *match_class(const char *p, char c, bool *ret_hit, int *budget)
{
	bool negated = p[1] == '!' || p[1] == '^', hit = false;
	const char *q = p + 1 + negated;

	for (bool first = true; first || *q != ']'; first = false, q++) {
		if (*q == '\0') {
			charge(budget, p, q);
			return NULL;
		}
		if (q[1] == '-' && q[2] != ']' && q[2] != '\0') {
			hit |= (unsigned char)c >= (unsigned char)q[0] && (unsigned char)c <= (unsigned char)q[2];
			q += 2;
		} else {
			hit |= c == *q;
		}
	}
	charge(budget, p, q);
	*ret_hit = hit != negated;
	return q + 1;
}

/* The end of the "{…}" at p, or NULL. */
static const char *brace_end(const char *p, int *budget)
{
	const char *start = p;
	int open = 0;

	for (; *p != '\0'; p++) {
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '{')
			open++;
		else if (*p == '}' && --open == 0)
			break;
	}
	charge(budget, start, p);
	return *p != '\0' ? p : NULL;
}

static bool match_braces(const char *p, const char *end, const char *s, int depth, int *budget)
{
	const char *alt = p + 1, *tail = end + 1, *tail_end = tail + strlen(tail);
	int open = 0;

	for (const char *q = p + 1;; q++) {
		open += (*q == '{') - (*q == '}' && q < end);
		if (q < end && (*q != ',' || open > 0))
			continue;
		charge(budget, alt, q);
		charge(budget, tail, tail_end);
		if (*budget < 0)
			return false;
		AUTO_STR whole = str_printf("%.*s%s", (int)(q - alt), alt, tail);

		if (match(whole, s, depth + 1, budget))
			return true;
		if (q == end)
			return false;
		alt = q + 1;
	}
}

static bool match_stars(const char *p, const char *s, int depth, int *budget)
{
	bool deep = p[1] == '*';

	while (*p == '*')
		p++;
	if (deep && *p == '/') {
		/* Whole folders, or none. */
		for (p++; s != NULL && *budget >= 0; s = strchr(s, '/') != NULL ? strchr(s, '/') + 1 : NULL)
			if (match(p, s, depth + 1, budget))
				return true;
		return false;
	}
	for (;; s++) {
		if (match(p, s, depth + 1, budget))
			return true;
		if (*s == '\0' || (!deep && *s == '/') || *budget < 0)
			return false;
	}
}

static bool match(const char *p, const char *s, int depth, int *budget)
{
	for (; *p != '\0'; p++, s++) {
		const char *end;
		bool hit;

		if (depth > MAX_DEPTH || --*budget < 0)
			return false;
		if (*p == '*')
			return match_stars(p, s, depth, budget);
		if (*p == '{' && (end = brace_end(p, budget)) != NULL)
			return match_braces(p, end, s, depth, budget);
		if (*s == '\0')
			return false;
		if (*p == '[' && *s != '/' && (end = match_class(p, *s, &hit, budget)) != NULL) {
			if (!hit)
				return false;
			p = end - 1;
			continue;
		}
		if (*p == '\\' && p[1] != '\0')
			p++;
		else if (*p == '?' && *s != '/')
			continue;
		if (*p != *s)
			return false;
	}
	return *s == '\0';
}

bool glob_matches(const char *pattern, const char *path)
{
	int budget = GLOB_STEPS;

	return match(pattern, path, 0, &budget);
}

bool glob_matches_within(const char *pattern, const char *path, int *budget)
{
	return *budget > 0 && match(pattern, path, 0, budget);
}
