/* Hooks as files and as answers: what is read, what matches, what an outcome means, what several mean together. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "agent/hooks/answer.h"
#include "agent/hooks/match.h"
#include "agent/hooks/transcript.h"
#include "base/mem.h"
#include "base/text.h"
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct hook_source *parse(const char *text)
{
	return hook_source_parse(HOOKS_PROJECT, "hooks.json", "/w", "/w", text, strlen(text));
}

static bool warns(const struct hook_source *s, const char *part)
{
	size_t i;
	json_t *w;

	json_array_foreach(s->warnings, i, w) if (strstr(json_string_value(w), part) != NULL) return true;
	return false;
}

static void test_a_file(void **state)
{
	AUTO(hook_source)
	s = parse(
	    "{\"version\":1,\"hooks\":{"
	    "\"preToolUse\":[{\"command\":\"a\",\"timeout\":0.5,\"matcher\":\"*\",\"failClosed\":true,\"else\":1},"
	    "{\"command\":\"b\",\"timeout\":99999},{\"command\":\"c\",\"timeout\":-1},{\"matcher\":\"x\"},"
	    "{\"type\":\"prompt\",\"prompt\":\"p\"},{\"command\":\"d\",\"matcher\":\"(\"}],"
	    "\"sessionStart\":[{\"command\":\"s\"}],"
	    "\"stop\":[{\"command\":\"e\"},{\"command\":\"f\",\"loop_limit\":null},{\"command\":\"g\",\"loop_limit\":0}"
	    "],"
	    "\"workspaceOpen\":[{\"command\":\"h\"}],\"nothing\":[]}}");

	assert_false(s->invalid);
	assert_int_equal(s->n, 8);
	assert_string_equal(s->entries[0].command, "a");
	assert_int_equal(s->entries[0].timeout_ms, 1000);
	assert_true(s->entries[0].fail_closed && s->entries[0].matcher == NULL && !s->entries[0].broken);
	assert_int_equal(s->entries[1].timeout_ms, 3600 * 1000);
	assert_int_equal(s->entries[2].timeout_ms, 1000);
	assert_true(s->entries[3].broken);
	assert_int_equal(s->entries[4].timeout_ms, 600 * 1000);
	assert_int_equal(s->entries[5].loop_limit, 5);
	assert_int_equal(s->entries[6].loop_limit, -1);
	assert_int_equal(s->entries[7].loop_limit, 0);
	assert_true(warns(s, "hooks.preToolUse[3].command must be"));
	assert_true(warns(s, "hooks.preToolUse[4] is a prompt hook"));
	assert_true(warns(s, "hooks.preToolUse[5].matcher is not a regular expression"));
	assert_true(warns(s, "hooks.workspaceOpen belongs to editors"));
	assert_true(warns(s, "hooks.nothing is not an event"));
}

static void test_files_that_are_none(void **state)
{
	static const char *const texts[] = {
	    "", "[]", "{\"version\":2,\"hooks\":{}}", "{\"hooks\":[]}", "{\"hooks\":{}", "{\"a\":1,\"a\":2}"};
	AUTO_STR large = mem_zalloc(HOOK_FILE_MAX + 2);
	struct strbuf many = STRBUF(100000);
	AUTO(hook_source) big = NULL;
	AUTO(hook_source) full = NULL;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		AUTO(hook_source) s = parse(texts[i]);

		assert_true(s->invalid);
		assert_int_equal(s->n, 0);
		assert_int_equal(json_array_size(s->warnings), 1);
	}
	memset(large, ' ', HOOK_FILE_MAX + 1);
	big = parse(large);
	assert_true(big->invalid && warns(big, "larger than 1 MiB"));
	strbuf_adds(&many, "{\"hooks\":{\"stop\":[");
	for (int i = 0; i <= HOOK_ENTRIES_MAX; i++)
		strbuf_addf(&many, "%s{\"command\":\"x\"}", i > 0 ? "," : "");
	strbuf_adds(&many, "]}}");
	full = parse(strbuf_str(&many));
	assert_true(full->invalid && warns(full, "more than 200 hooks"));
	strbuf_fini(&many);
}

static void test_matchers(void **state)
{
	static const struct {
		const char *pattern, *subject;
		int rc;
	} rows[] = {{"curl|wget", "sudo wget x", OK}, {"curl|wget", "CURL", ERR_EMPTY}, {"^Shell$", "Shell", OK},
	    {"MCP:.*", "MCP:echo", OK}, {"\\bgit\\s+push\\b", "git  push", OK}, {"\\u0041b", "Ab", OK},
	    {"é", "café", OK}, {"(a+)+$", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaab", ERR_TOO_LARGE}};
	struct hook_matcher *none = NULL;
	struct why why;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		AUTO(hook_matcher) m = NULL;

		assert_int_equal(hook_matcher_new(rows[i].pattern, &m, &why), OK);
		assert_int_equal(hook_matcher_test(m, rows[i].subject), rows[i].rc);
	}
	assert_int_equal(hook_matcher_new("", &none, &why), OK);
	assert_null(none);
	assert_int_equal(hook_matcher_new("*", &none, &why), OK);
	assert_null(none);
	assert_int_equal(hook_matcher_new("a[", &none, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "at character"));
}

/* One outcome, for a gate and for an event that only observes, and with failClosed. */
struct row {
	const char *what;
	struct hook_output o;
	bool gate, gate_closed, prompt; /* refuses */
	const char *text; /* in the words of the refusal that fails closed */
};
#define OUT(text) .out = (text), .out_len = sizeof(text) - 1, .err = ""

static bool outcome(enum hook_event e, bool closed, const struct hook_output *o, const char *text)
{
	struct hook_source s = {.rank = HOOKS_PROJECT};
	struct hook_entry h = {.event = e, .command = (char[]){"gate.sh"}, .fail_closed = closed, .timeout_ms = 5};
	AUTO_FINI(hook_answer) a = {0};

	hook_answer_read(&s, &h, HOOK_ASK_BY_EVENT, o, &a);
	if (a.refuses)
		assert_non_null(a.model_text);
	if (a.refuses && text != NULL && strstr(a.model_text, text) == NULL)
		fail_msg("'%s' does not say '%s'", a.model_text, text);
	return a.refuses;
}

/* PCRE2 counts its steps anew at each place of the subject, and a step can go over all of it. */
static void test_a_matcher_that_explodes(void **state)
{
	static const char *const patterns[] = {
	    "(a?){14}b", "(?:[^b]*b|[^c]*c)", "(?:(?:a?){6}[^b]*+b)+", "(?=(a+))\\1c"};
	size_t len = (size_t)512 * 1024;
	AUTO_STR subject = mem_alloc(len + 1);

	memset(subject, 'a', len);
	subject[len] = '\0';
	for (size_t i = 0; i < ARRAY_LEN(patterns); i++) {
		AUTO(hook_matcher) m = NULL;

		assert_int_equal(hook_matcher_new(patterns[i], &m, NULL), OK);
		assert_int_not_equal(hook_matcher_test(m, subject), OK);
	}
}

static void tell(struct transcripts *t, const char *id, const char *news)
{
	AUTO_JSON j = NULL;

	assert_int_equal(json_parse(news, strlen(news), &j, NULL), OK);
	transcripts_take(t, id, j);
}

/* What comes twice is there once, what is missing is said, and no name leads out of the folder. */
static void test_a_transcript(void **state)
{
	char dir[] = "/tmp/bullpen-transcripts-XXXXXX";
	AUTO_STR text = NULL;
	AUTO_STR path = NULL;
	struct transcripts *t;
	struct stat st;
	size_t len;

	assert_non_null(mkdtemp(dir));
	t = transcripts_new(dir, NULL);
	assert_null(transcripts_path(t, "c"));
	tell(t, "c", "{\"from\":0,\"upto\":2,\"lines\":[{\"at\":0,\"line\":{\"n\":0}},{\"at\":1,\"line\":{\"n\":1}}]}");
	tell(t, "c", "{\"from\":0,\"upto\":4,\"lines\":[{\"at\":1,\"line\":{\"n\":1}},{\"at\":3,\"line\":{\"n\":3}}]}");
	tell(t, "c", "{\"from\":0,\"upto\":2,\"lines\":[{\"at\":0,\"line\":{\"n\":0}}]}");
	tell(t, "c", "{\"from\":9,\"upto\":10,\"lines\":[{\"at\":9,\"line\":{\"n\":9}},7,{\"at\":9,\"line\":7}]}");
	tell(t, "../c", "{\"from\":0,\"upto\":1,\"lines\":[{\"at\":0,\"line\":{}}]}");
	tell(t, "d", "{\"upto\":\"x\",\"lines\":7}");
	assert_null(transcripts_path(t, "../c"));
	assert_null(transcripts_path(t, "d"));
	assert_int_equal(transcripts_next(t, "c"), 10);
	path = transcripts_path(t, "c");
	assert_int_equal(text_read_file(path, 4096, &text, &len), OK);
	assert_string_equal(text, "{\"n\":0}\n{\"n\":1}\n{\"n\":3}\n{\"role\":\"system\",\"message\":{\"content\":[{"
				  "\"type\":\"text\",\"text\":\"(messages are missing here)\"}]}}\n{\"n\":9}\n");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	transcripts_free(&t);
	assert_int_not_equal(access(path, F_OK), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void test_each_outcome(void **state)
{
	static const struct row rows[] = {
	    {"nothing", {OUT(" \n")}, false, true, false,
		"Blocked: hook gate.sh is set to fail closed and it printed nothing"},
	    {"an object", {OUT("{}")}, false, false, false, NULL},
	    {"allow", {OUT("{\"permission\":\"allow\"}")}, false, false, false, NULL},
	    {"deny", {OUT("{\"permission\":\"deny\",\"user_message\":\"u\",\"agent_message\":\"a\"}")}, true, true,
		true, "Blocked by hook gate.sh: a"},
	    {"stop", {OUT("{\"continue\":false,\"user_message\":\"u\"}")}, true, true, true,
		"Blocked by hook gate.sh: u"},
	    {"no JSON", {OUT("fine")}, true, true, false, "printed invalid JSON"},
	    {"an array", {OUT("[]")}, true, true, false, "printed invalid JSON"},
	    {"two values", {OUT("{} {}")}, true, true, false, "printed invalid JSON"},
	    {"a word that is none", {OUT("{\"permission\":\"maybe\"}")}, true, true, false, "permission must be"},
	    {"a wrong type", {OUT("{\"permission\":1}")}, true, true, true, "permission must be a text"},
	    {"a wrong type elsewhere", {OUT("{\"user_message\":[]}")}, true, true, true, "user_message must be a text"},
	    {"no UTF-8", {OUT("{\"a\":\"\xff\"}")}, true, true, false, "invalid UTF-8"},
	    {"too much", {OUT("{}"), .out_cut = true}, true, true, false, "more than 1 MiB"},
	    {"exit 2", {.code = 2, .out = "", .err = " stop it \n"}, true, true, true,
		"Blocked by hook gate.sh: stop it"},
	    {"exit 2 with words on stdout", {.code = 2, OUT("{\"user_message\":\"u\",\"agent_message\":\"a\"}")}, true,
		true, true, "Blocked by hook gate.sh: a"},
	    {"exit 2, stderr rules", {.code = 2, .out = "{\"agent_message\":\"a\"}", .out_len = 21, .err = "e"}, true,
		true, true, NULL},
	    {"exit 1", {.code = 1, .out = "", .err = "oh"}, false, true, false,
		"Blocked: hook gate.sh is set to fail closed and it exited with 1: oh"},
	    {"a signal", {.ending = HOOK_KILLED, .code = 9, .out = "", .err = ""}, false, true, false,
		"killed by signal 9"},
	    {"time", {.ending = HOOK_TIMED_OUT, .out = "", .err = "", .limit_ms = 5}, false, true, false,
		"timed out after 5 ms"},
	    {"no start", {.ending = HOOK_NOT_STARTED, .out = "", .err = "", .reason = "no such file"}, false, true,
		false, "could not be started: no such file"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const struct row *r = &rows[i];
		bool gate = outcome(HOOK_BEFORE_SHELL, false, &r->o, NULL);
		bool closed = outcome(HOOK_BEFORE_SHELL, true, &r->o, r->text);
		bool prompt = outcome(HOOK_BEFORE_SUBMIT_PROMPT, false, &r->o, NULL);

		if (gate != r->gate || closed != r->gate_closed || prompt != r->prompt)
			fail_msg("%s: %d %d %d", r->what, gate, closed, prompt);
		assert_false(outcome(HOOK_AFTER_SHELL, false, &r->o, NULL));
		assert_false(outcome(HOOK_AFTER_SHELL, true, &r->o, NULL));
	}
}

static bool asks(enum hook_event e, enum hook_ask ask)
{
	static const struct hook_output o = {OUT("{\"permission\":\"ask\"}")};
	struct hook_source s = {.rank = HOOKS_PROJECT};
	struct hook_entry h = {.event = e, .command = (char[]){"x"}};
	AUTO_FINI(hook_answer) a = {0};

	hook_answer_read(&s, &h, ask, &o, &a);
	assert_true(a.refuses || a.fault != NULL);
	return a.refuses;
}

static void test_ask_where_nobody_can_be_asked(void **state)
{
	assert_true(asks(HOOK_BEFORE_SHELL, HOOK_ASK_BY_EVENT));
	assert_true(asks(HOOK_BEFORE_MCP, HOOK_ASK_BY_EVENT));
	assert_true(asks(HOOK_SUBAGENT_START, HOOK_ASK_BY_EVENT));
	assert_false(asks(HOOK_PRE_TOOL_USE, HOOK_ASK_BY_EVENT));
	assert_true(asks(HOOK_PRE_TOOL_USE, HOOK_ASK_DENY));
	assert_false(asks(HOOK_BEFORE_SHELL, HOOK_ASK_ALLOW));
}

static void add(struct hook_verdict *v, enum hook_rank rank, enum hook_event e, const char *text)
{
	struct hook_source s = {.rank = rank};
	struct hook_entry h = {.event = e, .command = (char[]){"h"}};
	const struct hook_output o = {.out = text, .out_len = strlen(text), .err = ""};
	AUTO_FINI(hook_answer) a = {0};

	hook_answer_read(&s, &h, HOOK_ASK_BY_EVENT, &o, &a);
	hook_verdict_add(v, &s, &a);
}

static void test_a_denial_wins_in_every_order(void **state)
{
	static const char *const said[] = {"{\"permission\":\"deny\",\"user_message\":\"D\"}",
	    "{\"permission\":\"allow\",\"user_message\":\"A\"}", "{\"permission\":\"ask\",\"user_message\":\"Q\"}"};
	static const int orders[][3] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2}, {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};

	for (size_t i = 0; i < ARRAY_LEN(orders); i++) {
		AUTO_FINI(hook_verdict) v = {0};
		const char *d, *q;

		for (int k = 0; k < 3; k++)
			add(&v, (enum hook_rank[]){HOOKS_ENTERPRISE, HOOKS_TEAM, HOOKS_PROJECT}[k], HOOK_BEFORE_SHELL,
			    said[orders[i][k]]);
		assert_true(v.refuses);
		d = strstr(v.model_text, "hook h: D");
		q = strstr(v.model_text, ": Q");
		assert_non_null(d);
		assert_non_null(q);
		assert_non_null(strstr(v.model_text, "\n\n---\n\n"));
		assert_null(strstr(v.model_text, "A\n"));
		/* Joined in the order of configuration. */
		assert_int_equal(d < q, i == 0 || i == 1 || i == 2);
	}
}

static void test_what_is_merged(void **state)
{
	AUTO_FINI(hook_verdict) pre = {0};
	AUTO_FINI(hook_verdict) start = {0};
	AUTO_FINI(hook_verdict) stop = {0};

	add(&pre, HOOKS_TEAM, HOOK_PRE_TOOL_USE, "{\"updated_input\":{\"n\":1}}");
	add(&pre, HOOKS_TEAM, HOOK_PRE_TOOL_USE, "{\"updated_input\":{\"n\":2}}");
	add(&pre, HOOKS_PROJECT, HOOK_PRE_TOOL_USE, "{\"updated_input\":{\"n\":3}}");
	assert_int_equal(json_integer_value(json_object_get(pre.updated_input, "n")), 2);
	add(&start, HOOKS_TEAM, HOOK_SESSION_START,
	    "{\"env\":{\"A\":\"team\",\"CURSOR_A\":\"x\",\"LD_A\":\"x\"},\"additional_context\":\"one\"}");
	add(&start, HOOKS_PROJECT, HOOK_SESSION_START,
	    "{\"env\":{\"A\":\"project\",\"B\":\"b\"},\"additional_context\":\"two\"}");
	assert_int_equal(json_object_size(start.env), 2);
	assert_string_equal(json_string_value(json_object_get(json_object_get(start.env, "A"), "value")), "team");
	assert_string_equal(start.context, "one\n\n---\n\ntwo");
	assert_int_equal(json_array_size(start.faults), 2);
	add(&stop, HOOKS_TEAM, HOOK_STOP, "{\"followup_message\":\"team\"}");
	add(&stop, HOOKS_PROJECT, HOOK_STOP, "{\"followup_message\":\"project\",\"permission\":\"deny\"}");
	assert_string_equal(stop.followup, "team");
	assert_false(stop.refuses);
}

static void test_the_other_format(void **state)
{
	static const char text[] =
	    "{\"hooks\":{\"PreToolUse\":[{\"matcher\":\"Bash|Edit|MultiEdit\",\"hooks\":[{\"type\":"
	    "\"command\",\"command\":\"x\"}]}],\"Notification\":[],\"Stop\":[{\"hooks\":[{\"command\":"
	    "\"y\"}]}]},\"model\":\"anything\",\"version\":7}";
	AUTO(hook_source) s = hook_source_parse(HOOKS_THIRD_PARTY, "settings.json", "/w", NULL, text, strlen(text));
	AUTO_JSON answer = NULL;

	assert_int_equal(s->n, 2);
	assert_string_equal(s->entries[0].pattern, "Shell|Write|MultiEdit");
	assert_int_equal(s->entries[1].loop_limit, -1);
	assert_true(warns(s, "Notification is not supported"));
	answer = json_pack("{s:s, s:s}", "decision", "block", "reason", "go on");
	hook_third_party_answer(HOOK_STOP, answer);
	assert_string_equal(json_string_value(json_object_get(answer, "followup_message")), "go on");
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_file), cmocka_unit_test(test_files_that_are_none),
	    cmocka_unit_test(test_matchers), cmocka_unit_test(test_a_matcher_that_explodes),
	    cmocka_unit_test(test_a_transcript), cmocka_unit_test(test_each_outcome),
	    cmocka_unit_test(test_ask_where_nobody_can_be_asked), cmocka_unit_test(test_a_denial_wins_in_every_order),
	    cmocka_unit_test(test_what_is_merged), cmocka_unit_test(test_the_other_format)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
