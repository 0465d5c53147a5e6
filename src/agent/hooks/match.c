#define PCRE2_CODE_UNIT_WIDTH 8
#include "agent/hooks/match.h"
#include "base/clock.h"
#include "base/mem.h"
#include <pcre2.h>
#include <string.h>

#define PATTERN_MAX 4096
#define STEPS_MAX 100000
#define DEPTH_MAX 2000
#define HEAP_MAX_KIB 4096
#define MATCH_MS 250
#define LOOKS 16 /* items of the pattern between two looks at the clock */

struct hook_matcher {
	pcre2_code *code;
};

static int refuse_pattern(struct why *why, int number, size_t at)
{
	PCRE2_UCHAR text[200];

	if (pcre2_get_error_message(number, text, sizeof text) < 0)
		snprintf((char *)text, sizeof text, "error %d", number);
	return why_set(why, ERR_INVALID, "%s at character %zu", (const char *)text, at);
}

int hook_matcher_new(const char *pattern, struct hook_matcher **ret, struct why *why)
{
	/* What the patterns were written for is JavaScript. */
	const uint32_t options =
	    PCRE2_UTF | PCRE2_ALT_BSUX | PCRE2_MATCH_UNSET_BACKREF | PCRE2_NEVER_BACKSLASH_C | PCRE2_AUTO_CALLOUT;
	struct hook_matcher *m;
	pcre2_code *code;
	int number = 0;
	size_t at = 0;

	*ret = NULL;
	if (pattern[0] == '\0' || strcmp(pattern, "*") == 0)
		return OK;
	if (strlen(pattern) > PATTERN_MAX)
		return why_set(why, ERR_INVALID, "longer than %d characters", PATTERN_MAX);
	code = pcre2_compile((PCRE2_SPTR)pattern, PCRE2_ZERO_TERMINATED, options, &number, &at, NULL);
	if (code == NULL)
		return refuse_pattern(why, number, at);
	m = NEW(struct hook_matcher);
	m->code = code;
	*ret = m;
	return OK;
}

void hook_matcher_free(struct hook_matcher **mp)
{
	struct hook_matcher *m = TAKE(*mp);

	if (m == NULL)
		return;
	pcre2_code_free(m->code);
	free(m);
}

struct patience {
	int64_t until_ms;
	unsigned n;
};

/* The limit of steps is for one place of the subject, and one step can go over all of it; so there is one of time.
 * Called before each item of the pattern. */
static int look_at_clock(pcre2_callout_block *block, void *ctx)
{
	struct patience *p = ctx;

	return ++p->n % LOOKS == 0 && clock_mono_ms() > p->until_ms ? PCRE2_ERROR_CALLOUT : 0;
}

int hook_matcher_test(const struct hook_matcher *m, const char *subject)
{
	pcre2_match_context *limits = pcre2_match_context_create(NULL);
	pcre2_match_data *data = pcre2_match_data_create(1, NULL);
	struct patience patience = {.until_ms = clock_mono_ms() + MATCH_MS};
	int rc;

	ENSURE(limits != NULL && data != NULL);
	pcre2_set_match_limit(limits, STEPS_MAX);
	pcre2_set_depth_limit(limits, DEPTH_MAX);
	pcre2_set_heap_limit(limits, HEAP_MAX_KIB);
	pcre2_set_callout(limits, look_at_clock, &patience);
	rc = pcre2_match(m->code, (PCRE2_SPTR)subject, strlen(subject), 0, 0, data, limits);
	pcre2_match_data_free(data);
	pcre2_match_context_free(limits);
	if (rc >= 0)
		return OK;
	return rc == PCRE2_ERROR_NOMATCH ? ERR_EMPTY : ERR_TOO_LARGE;
}
