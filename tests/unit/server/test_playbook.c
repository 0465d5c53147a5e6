/* What playbook reads from a prompt, and what it asks for next. */
#include "base/mem.h"
#include "server/models/playbook.h"
#include "server/models/provider.h"
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

static const char *arg(const struct playbook_step *s, const char *key)
{
	return json_string_value(json_object_get(s->arguments, key));
}

static void test_blocks(void **state)
{
	struct playbook p;

	assert_int_equal(
	    playbook_parse("Prose.\n```sh\nmake\ntest\n```\n```python\nignored\n```\n"
			   "~~~file a b.txt\n```\ninner\n```\n~~~\n```tool grep_search\n{\"pattern\": \"x\"}\n```\n",
		&p),
	    OK);
	assert_int_equal(p.n, 3);
	assert_string_equal(p.steps[0].tool, "run_terminal_cmd");
	assert_string_equal(arg(&p.steps[0], "command"), "make\ntest");
	assert_string_equal(p.steps[1].tool, "write_file");
	assert_string_equal(arg(&p.steps[1], "path"), "a b.txt");
	assert_string_equal(arg(&p.steps[1], "fileText"), "```\ninner\n```\n");
	assert_string_equal(p.steps[2].tool, "grep_search");
	assert_string_equal(arg(&p.steps[2], "pattern"), "x");
	playbook_fini(&p);
}

static void test_must(void **state)
{
	struct playbook p;

	assert_int_equal(
	    playbook_parse("```sh must\na\n```\n```file x must\nb\n```\n```bash\nmust\n```\n```file must\nc\n```", &p),
	    OK);
	assert_int_equal(p.n, 4);
	assert_true(p.steps[0].must);
	assert_true(p.steps[1].must);
	assert_string_equal(arg(&p.steps[1], "path"), "x");
	assert_false(p.steps[2].must);
	assert_true(p.steps[3].must);
	assert_non_null(p.steps[3].problem);
	playbook_fini(&p);
}

static void test_unclosed_and_crlf(void **state)
{
	struct playbook p;

	assert_int_equal(playbook_parse("```sh\r\necho 1\r\n```\r\n````sh\necho 2\n```\n", &p), OK);
	assert_int_equal(p.n, 2);
	assert_string_equal(arg(&p.steps[0], "command"), "echo 1");
	assert_string_equal(arg(&p.steps[1], "command"), "echo 2\n```");
	playbook_fini(&p);
}

static void test_bad_arguments(void **state)
{
	struct playbook p;

	assert_int_equal(playbook_parse("```tool a\n{\n```\n```tool b\n[1]\n```\n```tool c\n```\n", &p), OK);
	assert_non_null(strstr(p.steps[0].problem, "not JSON"));
	assert_non_null(strstr(p.steps[1].problem, "must be a JSON object"));
	assert_null(p.steps[2].problem);
	playbook_fini(&p);
}

static int on_text(void *ctx, const char *text, size_t len)
{
	return OK;
}

static struct model_result ask(const json_t *conversation)
{
	AUTO_JSON tools = json_pack("[{s:s, s:s}, {s:s, s:s}]", "name", "read_file", "class", "read", "name",
	    "run_terminal_cmd", "class", "mutating");
	const struct model_request req = {.system = "", .conversation = conversation, .tools = tools};
	const struct model_sink sink = {.on_text = on_text};
	struct model_result turn = {0};
	struct why why;

	assert_int_equal(provider_playbook.request(&provider_playbook, &req, &sink, &turn, &why), OK);
	return turn;
}

static void answer(json_t *conversation, const char *outcome)
{
	json_array_append_new(
	    conversation, json_pack("{s:s, s:s, s:s, s:s, s:s, s:{s:i}}", "role", "tool", "callId", "c", "name", "x",
			      "outcome", outcome, "text", "", "detail", "exitCode", 3));
}

static void test_reads_go_together_and_the_rest_alone(void **state)
{
	AUTO_JSON c = json_pack("[{s:s, s:s}]", "role", "user", "text",
	    "```tool read_file\n{\"path\":\"a\"}\n```\n```tool read_file\n{\"path\":\"b\"}\n```\n```sh\nfalse\n```\n");
	struct model_result t = ask(c);

	assert_int_equal(json_array_size(t.calls), 2);
	model_result_fini(&t);
	answer(c, "success");
	answer(c, "success");
	t = ask(c);
	assert_int_equal(json_array_size(t.calls), 1);
	model_result_fini(&t);
	answer(c, "failure");
	t = ask(c);
	assert_int_equal(json_array_size(t.calls), 0);
	assert_string_equal(t.text, "2 of 3 steps succeeded.\n1. tool read_file: ok\n2. tool read_file: ok\n"
				    "3. sh: false: failed, exit status 3");
	model_result_fini(&t);
}

static void test_a_failed_must_stops_the_rest(void **state)
{
	AUTO_JSON c = json_pack("[{s:s, s:s}]", "role", "user", "text", "```sh must\nfalse\n```\n```sh\ntrue\n```\n");
	struct model_result t;

	answer(c, "failure");
	t = ask(c);
	assert_int_equal(json_array_size(t.calls), 0);
	assert_non_null(strstr(t.text, "2. sh: true: skipped"));
	model_result_fini(&t);
}

static void test_a_follow_up_is_read_anew(void **state)
{
	AUTO_JSON c = json_pack("[{s:s, s:s}]", "role", "user", "text", "```sh\none\n```");
	struct model_result t;

	answer(c, "success");
	json_array_append_new(c, json_pack("{s:s, s:s}", "role", "user", "text", "Thank you."));
	t = ask(c);
	assert_int_equal(json_array_size(t.calls), 0);
	assert_non_null(strstr(t.text, "playbook"));
	model_result_fini(&t);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_blocks),
	    cmocka_unit_test(test_must),
	    cmocka_unit_test(test_unclosed_and_crlf),
	    cmocka_unit_test(test_bad_arguments),
	    cmocka_unit_test(test_reads_go_together_and_the_rest_alone),
	    cmocka_unit_test(test_a_failed_must_stops_the_rest),
	    cmocka_unit_test(test_a_follow_up_is_read_anew),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
