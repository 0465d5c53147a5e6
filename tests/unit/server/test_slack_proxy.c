/* Which proxy Socket Mode goes through, as the environment says it. */
#include "base/mem.h"
#include "server/triggers/slack_priv.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <string.h>

static const char *const *environment;

static const char *look(const char *name)
{
	for (const char *const *e = environment; *e != NULL; e += 2)
		if (strcmp(e[0], name) == 0)
			return e[1];
	return NULL;
}

static void test_choice(void **state)
{
	static const struct {
		const char *env[7], *host;
		bool tls;
		const char *want; /* "": none; NULL: refused */
	} rows[] = {{{NULL}, "wss.slack.com", true, ""},
	    {{"HTTPS_PROXY", "http://p:3128"}, "wss.slack.com", true, "p:3128"},
	    {{"https_proxy", "http://p:1/", "HTTPS_PROXY", "http://q:2"}, "wss.slack.com", true, "p:1"},
	    {{"HTTPS_PROXY", "p:3128"}, "wss.slack.com", true, "p:3128"},
	    {{"HTTPS_PROXY", "HTTP://a%40b:c%2Fd@p:3128"}, "wss.slack.com", true, "a@b:c/d@p:3128"},
	    {{"http_proxy", "http://p:1"}, "wss.slack.com", true, ""},
	    {{"http_proxy", "http://p:1"}, "localhost", false, "p:1"},
	    {{"HTTP_PROXY", "http://p:1"}, "localhost", false, ""},
	    {{"ALL_PROXY", "http://p:1"}, "wss.slack.com", true, "p:1"},
	    {{"https_proxy", ""}, "wss.slack.com", true, ""},
	    {{"HTTPS_PROXY", "http://p:1", "NO_PROXY", "*"}, "wss.slack.com", true, ""},
	    {{"HTTPS_PROXY", "http://p:1", "no_proxy", "a, .slack.com"}, "wss.slack.com", true, ""},
	    {{"HTTPS_PROXY", "http://p:1", "NO_PROXY", "SLACK.com"}, "wss.slack.com", true, ""},
	    {{"HTTPS_PROXY", "http://p:1", "NO_PROXY", "ack.com,x"}, "wss.slack.com", true, "p:1"},
	    {{"HTTPS_PROXY", "socks5://p:1"}, "wss.slack.com", true, NULL},
	    {{"HTTPS_PROXY", "http://secret@"}, "wss.slack.com", true, NULL},
	    {{"HTTPS_PROXY", "http://p"}, "wss.slack.com", true, NULL}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		struct why why = {0};
		AUTO_STR got = NULL;
		int rc;

		environment = rows[i].env;
		rc = slack_proxy_for(rows[i].host, rows[i].tls, look, &got, &why);
		assert_int_equal(rc, rows[i].want == NULL ? ERR_INVALID : OK);
		if (rc == OK)
			assert_string_equal(got != NULL ? got : "", rows[i].want);
		else
			assert_null(strstr(why.text, "secret"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_choice)};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
