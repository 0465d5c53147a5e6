/* Small parts of a worker that have no process: naps, turns, token files, the kinds of keys, the exposition. */
#include "agent/worker/auth.h"
#include "agent/worker/manage.h"
#include "agent/worker/nap.h"
#include "agent/worker/turns.h"
#include "base/mem.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void naps(void **state)
{
	int64_t gap = -1;

	assert_int_equal(nap_between(&gap, 1000, 5000), 0); /* whatever was before */
	assert_int_equal(nap_between(&gap, 2000, 6000), 0);
	assert_int_equal(nap_between(&gap, 3000, 8999), 0); /* less than a nap */
	assert_int_equal(nap_between(&gap, 4000, 9999), 0);
	assert_int_equal(nap_between(&gap, 5000, 3610999), 3600000);
	assert_int_equal(nap_between(&gap, 6000, 3611999), 0); /* told once */
}

struct ended {
	int n[SESSION_ENDS], all;
};

static void on_end(void *ctx, enum session_end how)
{
	struct ended *e = ctx;

	e->n[how]++;
	e->all++;
}

static void call(struct turns *t, Bullpen__Worker__V1__CallKind kind, char *agent, char *id)
{
	Bullpen__Worker__V1__Call m = BULLPEN__WORKER__V1__CALL__INIT;

	m.kind = kind;
	m.agent_id = agent;
	m.call_id = id;
	turns_call(t, &m);
}
#define OPEN BULLPEN__WORKER__V1__CALL_KIND__OPEN_SESSION
#define RUN BULLPEN__WORKER__V1__CALL_KIND__TOOL
#define PUB BULLPEN__WORKER__V1__CALL_KIND__PUBLISH
#define CLOSE BULLPEN__WORKER__V1__CALL_KIND__CLOSE_SESSION

static void a_turn_ends_once(void **state)
{
	struct ended e = {0};
	struct turns *t = turns_new(false, on_end, &e);

	call(t, OPEN, "a", "1");
	call(t, OPEN, "a", "1"); /* it came again */
	assert_int_equal(turns_open(t), 1);
	call(t, RUN, "a", "2");
	call(t, PUB, "a", "3");
	turns_result(t, "2");
	assert_int_equal(e.all, 0);
	turns_result(t, "3");
	turns_result(t, "3");
	call(t, OPEN, "a", "1");
	call(t, PUB, "a", "3");
	call(t, CLOSE, "a", "4");
	assert_true(e.all == 1 && e.n[SESSION_END_STREAM_END] == 1 && turns_open(t) == 0);
	/* Another agent takes the worker over. */
	call(t, OPEN, "a", "5");
	call(t, OPEN, "b", "6");
	assert_true(e.all == 2 && turns_open(t) == 1);
	/* A call that was cancelled and that others follow is nothing special. */
	call(t, RUN, "b", "7");
	turns_cancel(t, "7");
	call(t, RUN, "b", "8");
	call(t, CLOSE, "b", "9");
	assert_true(e.all == 3 && e.n[SESSION_END_STREAM_END] == 3);
	call(t, OPEN, "b", "10");
	call(t, RUN, "b", "11");
	turns_cancel(t, "11");
	call(t, CLOSE, "b", "12");
	assert_true(e.all == 4 && e.n[SESSION_END_SESSION_ABORTED] == 1);
	call(t, OPEN, "b", "13");
	turns_end_all(t, SESSION_END_SESSION_ERROR);
	turns_end_all(t, SESSION_END_SESSION_ABORTED);
	assert_true(e.all == 5 && e.n[SESSION_END_SESSION_ERROR] == 1);
	turns_free(&t);
}

static void several_turns(void **state)
{
	struct ended e = {0};
	struct turns *t = turns_new(true, on_end, &e);
	char agent[16], id[16];

	for (int i = 0; i < 1000; i++) {
		snprintf(agent, sizeof agent, "a%d", i % 8);
		snprintf(id, sizeof id, "c%d", i);
		call(t, OPEN, agent, id);
	}
	assert_true(turns_open(t) == 8 && e.all == 1000 - 8);
	/* Many that are open at once: what was forgotten was counted. */
	for (int i = 0; i < 1000; i++) {
		snprintf(agent, sizeof agent, "b%d", i);
		snprintf(id, sizeof id, "d%d", i);
		call(t, OPEN, agent, id);
	}
	turns_end_all(t, SESSION_END_SESSION_ABORTED);
	assert_int_equal(e.all, 2000);
	turns_free(&t);
}

static void token_files(void **state)
{
	char dir[] = "/tmp/token-XXXXXX";
	struct why why;
	FILE *f;

	assert_non_null(mkdtemp(dir));
	AUTO_STR path = str_printf("%s/token", dir);
	static const struct {
		const char *text;
		int rc;
		const char *token;
	} cases[] = {{"abc", OK, "abc"}, {" \n abc.def-_~\r\n", OK, "abc.def-_~"}, {"", ERR_EMPTY, NULL},
	    {" \n", ERR_EMPTY, NULL}, {"a b", ERR_UNAUTHORIZED, NULL}, {"a\nb", ERR_UNAUTHORIZED, NULL},
	    {"\xc3\xa4", ERR_UNAUTHORIZED, NULL}};

	AUTO_STR none = NULL;
	assert_int_equal(auth_read_file(path, &none, &why), ERR_EMPTY);
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_STR token = NULL;

		f = fopen(path, "w");
		fputs(cases[i].text, f);
		fclose(f);
		assert_int_equal(auth_read_file(path, &token, &why), cases[i].rc);
		if (cases[i].token != NULL)
			assert_string_equal(token, cases[i].token);
		assert_true(cases[i].text[0] == '\0' || strstr(why.text, "a b") == NULL);
	}
	f = fopen(path, "w");
	for (int i = 0; i < 70000; i++)
		fputc('x', f);
	fclose(f);
	assert_int_equal(auth_read_file(path, &none, &why), ERR_INVALID);
	/* Nobody waits for a pipe. */
	unlink(path);
	assert_int_equal(mkfifo(path, 0600), 0);
	assert_int_equal(auth_read_file(path, &none, &why), ERR_INVALID);
	unlink(path);
	rmdir(dir);
}

static void key_types(void **state)
{
	static const struct {
		const char *type;
		bool pool;
		int rc;
	} cases[] = {{"service_account", true, OK}, {"service_account", false, ERR_UNAUTHORIZED},
	    {"session_token", true, OK}, {"session_token", false, ERR_UNAUTHORIZED}, {"user", true, ERR_UNAUTHORIZED},
	    {"user", false, OK}, {"user_scoped", true, ERR_UNAUTHORIZED}, {"user_scoped", false, OK},
	    {"team", true, ERR_UNAUTHORIZED}, {"team", false, ERR_UNAUTHORIZED},
	    {"organization", true, ERR_UNAUTHORIZED}, {"organization", false, ERR_UNAUTHORIZED}, {"unknown", true, OK},
	    {"unknown", false, OK}};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct why why = {""};

		if (auth_check_key_type(cases[i].type, cases[i].pool, &why) != cases[i].rc)
			fail_msg("%s %d", cases[i].type, cases[i].pool);
		assert_int_equal(why.text[0] != '\0', cases[i].rc != OK);
	}
}

static void exposition(void **state)
{
	struct worker_figures f = {.last_activity_s = 1777622400, .attempts = 3, .retries = 1};
	AUTO_STR text = NULL;

	f.ends[SESSION_END_STREAM_END] = 7;
	text = manage_metrics(&f);
	assert_non_null(strstr(text, "\ncursor_self_hosted_worker_last_activity_unix_seconds 1777622400\n"));
	assert_non_null(strstr(text, "\ncursor_self_hosted_worker_session_ends_total{reason=\"stream_end\"} 7\n"));
	assert_non_null(strstr(text, "\ncursor_self_hosted_worker_session_ends_total{reason=\"session_aborted\"} 0\n"));
	assert_non_null(strstr(text, "# TYPE cursor_self_hosted_worker_connect_retry_total counter\n"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(naps),
	    cmocka_unit_test(a_turn_ends_once),
	    cmocka_unit_test(several_turns),
	    cmocka_unit_test(token_files),
	    cmocka_unit_test(key_types),
	    cmocka_unit_test(exposition),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
