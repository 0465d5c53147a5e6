/* The table of calls with a fake tool: at most once, in turn, and kept until acknowledged. */
#include "calls_scene.h"
#include "agent/worker/backoff.h"

static void a_repeated_call_is_not_repeated(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "wait", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 1);
	release_one();
	pump_until(&b, count(&b, "c1 1 ") == 1);
	start(&b, "c1", "wait", "a", 0); /* finished: its result again */
	assert_int_equal(count(&b, "c1 1 "), 2);
	calls_acknowledge(b.calls, "c1");
	assert_int_equal(calls_unacknowledged(b.calls), 0);
	start(&b, "c1", "wait", "a", 0); /* acknowledged: an error, but never again */
	assert_int_equal(count(&b, "already_done"), 1);
	assert_int_equal(started(), 1);
	bench_fini(&b);
}

static void results_are_kept_until_acknowledged(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "agent-1", 0);
	pump_until(&b, count(&b, "open 1 ") == 1);
	start(&b, "c1", "echo", "agent-1", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	start(&b, "c2", "wait", "agent-1", 0);
	calls_acknowledge(b.calls, "open");
	calls_acknowledge(b.calls, "c2"); /* not finished: no meaning */
	calls_acknowledge(b.calls, "nobody"); /* neither */
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.agent_id, "agent-1");
	assert_int_equal(h.n_calls, 2);
	assert_string_equal(h.calls[0]->call_id, "c1");
	assert_true(h.calls[0]->finished);
	assert_string_equal(h.calls[1]->call_id, "c2");
	assert_false(h.calls[1]->finished);
	calls_resend(b.calls);
	assert_int_equal(count(&b, "c1 1 "), 2);
	assert_int_equal(count(&b, "c2 "), 0);
	bench_fini(&b);
}

static void cancelling(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "wait", "a", 0);
	start(&b, "open", "OPEN", "a", 0);
	start(&b, "c2", "echo", "a", 0); /* behind the open */
	pump_until(&b, started() == 1);
	calls_cancel(b.calls, "nobody");
	calls_cancel(b.calls, "c2");
	assert_int_equal(count(&b, "c2 3 "), 1);
	calls_cancel(b.calls, "c1");
	pump_until(&b, count(&b, "c1 3 ") == 1 && count(&b, "open 1 ") == 1);
	assert_int_equal(started(), 2);
	bench_fini(&b);
}

static void limits_are_enforced(void **state)
{
	struct bench b;

	bench_init(&b);
	/* The tool that waits does not look at its deadline: the table cancels it. */
	start(&b, "c1", "wait", "a", 1);
	pump_until(&b, count(&b, "c1 3 ") == 1);
	bench_fini(&b);
}

static void session_calls_run_alone(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "a", 0);
	for (int i = 0; i < 10; i++) {
		char id[16];

		snprintf(id, sizeof id, "w%d", i);
		start(&b, id, "wait", "a", 0);
	}
	pump_until(&b, started() == 11);
	assert_int_equal(fake.most_running, 10);
	start(&b, "open2", "OPEN", "a", 0); /* same agent: waits, cancels nothing */
	start(&b, "later", "echo", "a", 0);
	assert_int_equal(started(), 11);
	for (int i = 0; i < 10; i++)
		release_one();
	pump_until(&b, count(&b, "later 1 ") == 1);
	assert_int_equal(count(&b, " 3 "), 0);
	assert_false(fake.overlap);
	bench_fini(&b);
}

static void another_agent_ends_the_calls_of_the_first(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	start(&b, "open2", "OPEN", "b", 0);
	pump_until(&b, count(&b, "open2 1 ") == 1);
	assert_int_equal(count(&b, "c1 3 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "b");
	start(&b, "c2", "wait", "b", 0);
	start(&b, "end", "CLOSE", "b", 0);
	pump_until(&b, count(&b, "end 1 ") == 1);
	assert_int_equal(count(&b, "c2 3 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "");
	/* Our own closing answers nobody. */
	start(&b, "open3", "OPEN", "c", 0);
	pump_until(&b, count(&b, "open3 1 ") == 1);
	calls_close_session(b.calls, "aborted", 0);
	pump_until(&b, calls_active(b.calls) == 0);
	assert_string_equal(calls_open_agent(b.calls), "");
	assert_int_equal(count(&b, "close "), 0);
	bench_fini(&b);
}

static void closing_the_session_of_one_agent_leaves_another_alone(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	/* Late, or meant for somebody else: it waits its turn, and neither cancels nor closes. */
	start(&b, "end-b", "CLOSE", "b", 0);
	pump(&b);
	assert_int_equal(count(&b, "c1 "), 0);
	release_one();
	pump_until(&b, count(&b, "end-b 1 ") == 1);
	assert_int_equal(count(&b, "c1 1 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "a");
	/* Its own takes its own calls along, and no others. */
	start(&b, "c2", "wait", "a", 0);
	start(&b, "c3", "wait", "b", 0);
	pump_until(&b, started() == 5);
	start(&b, "end-a", "CLOSE", "a", 0);
	pump_until(&b, count(&b, "c2 3 ") == 1);
	assert_int_equal(count(&b, "c3 "), 0);
	release_one();
	pump_until(&b, count(&b, "end-a 1 ") == 1);
	assert_int_equal(count(&b, "c3 1 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "");
	bench_fini(&b);
}

static void a_late_close_leaves_the_next_claim_of_the_same_agent_alone(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct bench b;

	bench_init(&b);
	start_for(&b, "open-1", "OPEN", "a", "claim-1", 0);
	start_for(&b, "c1", "wait", "a", "claim-1", 0);
	pump_until(&b, started() == 2);
	/* The claim ended, the agent came back with a new one: what ran for the first is over. */
	start_for(&b, "open-2", "OPEN", "a", "claim-2", 0);
	pump_until(&b, count(&b, "open-2 1 ") == 1);
	assert_int_equal(count(&b, "c1 3 "), 1);
	start_for(&b, "c2", "wait", "a", "claim-2", 0);
	pump_until(&b, started() == 4);
	/* Only now the close of the first arrives. */
	start_for(&b, "end-1", "CLOSE", "a", "claim-1", 0);
	pump(&b);
	assert_int_equal(count(&b, "c2 "), 0);
	release_one();
	pump_until(&b, count(&b, "end-1 1 ") == 1);
	assert_int_equal(count(&b, "c2 1 "), 1);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.agent_id, "a");
	assert_string_equal(h.session_claim_id, "claim-2");
	start_for(&b, "end-2", "CLOSE", "a", "claim-2", 0);
	pump_until(&b, count(&b, "end-2 1 ") == 1);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.session_claim_id, "");
	bench_fini(&b);
}

/* Only the close can name what was kept: the opening that comes behind it closes the session unheard. */
static void a_close_that_waits_is_not_ended_by_the_next_opening(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open-a", "OPEN", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	/* Without a pump in between the close waits for the call that it has just ended. */
	start(&b, "end-a", "CLOSE", "a", 0);
	start(&b, "open-b", "OPEN", "b", 0);
	assert_int_equal(count(&b, "end-a "), 0);
	pump_until(&b, count(&b, "open-b 1 ") == 1);
	assert_int_equal(count(&b, "c1 3 "), 1);
	assert_int_equal(count(&b, "end-a 1 "), 1);
	assert_false(fake.overlap);
	assert_string_equal(calls_open_agent(b.calls), "b");
	bench_fini(&b);
}

/* The connection is lost for good, or the worker stops, before a close has had its turn: its result is what names the
 * work that was kept. */
static void a_close_that_waits_is_not_cancelled_with_the_rest(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open-a", "OPEN", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	start(&b, "end-a", "CLOSE", "a", 0);
	start(&b, "c2", "echo", "a", 0);
	calls_close_session(b.calls, "aborted", 0);
	calls_cancel_all(b.calls);
	assert_int_equal(count(&b, "end-a "), 0);
	assert_int_equal(count(&b, "c2 3 "), 1);
	pump_until(&b, calls_active(b.calls) == 0);
	assert_int_equal(count(&b, "end-a 1 "), 1);
	assert_int_equal(count(&b, "c1 3 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "");
	bench_fini(&b);
}

/* A Hello in between must not say that the session is open: the control plane would send calls for it. */
static void a_session_that_is_being_closed_is_not_told_as_open(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct bench b;

	bench_init(&b);
	start_for(&b, "open", "OPEN", "a", "claim-1", 0);
	start_for(&b, "c1", "wait", "a", "claim-1", 0);
	pump_until(&b, started() == 2);
	calls_close_session(b.calls, "aborted", 0);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.session_claim_id, "");
	assert_string_equal(h.agent_id, "");
	/* An opening that waits behind it is new. */
	start_for(&b, "open-2", "OPEN", "a", "claim-1", 0);
	pump_until(&b, count(&b, "open-2 1 ") == 1);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.session_claim_id, "claim-1");
	bench_fini(&b);
}

static char *run_job(struct session *s, call_kind kind, const char *agent, const char *claim, const char *args)
{
	struct job j = {.handler = call_handler_find(kind),
	    .call_id = str_dup("c"),
	    .agent_id = str_dup(agent != NULL ? agent : ""),
	    .claim_id = str_dup(claim),
	    .name = str_dup(""),
	    .arguments_json = str_dup(args),
	    .any_session = agent == NULL,
	    .deadline_mono_ms = INT64_MAX,
	    .cancel_fd = -1,
	    .session = s};
	char *outcome;

	job_run(&j);
	outcome = j.outcome == TOOL_SUCCESS ? str_dup("success") : str_dup(j.result_json);
	job_fini(&j);
	return outcome;
}

static void expect_job(
    struct session *s, call_kind kind, const char *agent, const char *claim, const char *args, const char *outcome)
{
	AUTO_STR got = run_job(s, kind, agent, claim, args);

	if (strstr(got, outcome) == NULL)
		fail_msg("%s instead of %s", got, outcome);
}

static void a_real_session_is_closed_by_its_own_agent_only(void **state)
{
	char dir[] = "/tmp/bullpen-calls-XXXXXX";
	AUTO_STR state_dir = NULL;
	AUTO_STR root = NULL;
	const char *roots[1];
	struct session_config cfg = {.roots = roots, .n_roots = 1};
	struct session *s;

	assert_non_null(mkdtemp(dir));
	state_dir = str_printf("%s/sessions", dir);
	root = str_printf("%s/work", dir);
	assert_int_equal(mkdir(root, 0700), 0);
	roots[0] = root;
	cfg.state_dir = state_dir;
	s = session_new(&cfg);
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{}", "success");
	expect_job(s, CALL_CLOSE_SESSION, "b", "1", "", "success");
	expect_job(s, CALL_CLOSE_SESSION, "a", "2", "", "success");
	expect_job(s, CALL_CLOSE_SESSION, "", "", "", "success");
	assert_string_equal(session_agent_id(s), "a");
	/* Work for another claim of its agent is not for this session either. */
	expect_job(s, CALL_PUBLISH, "a", "2", "{}", "no_session");
	expect_job(s, CALL_TOOL, "a", "2", "{}", "no_session");
	expect_job(s, CALL_TOOL, "a", "1", "{}", "unknown_tool");
	expect_job(s, CALL_CLOSE_SESSION, "a", "1", "", "success");
	assert_string_equal(session_agent_id(s), "");
	/* The same agent again, under a new claim: the session goes on under its name. */
	expect_job(s, CALL_OPEN_SESSION, "a", "3", "{}", "success");
	expect_job(s, CALL_OPEN_SESSION, "a", "4", "{}", "success");
	assert_string_equal(session_claim_id(s), "4");
	/* Our own closing asks nobody. */
	expect_job(s, CALL_CLOSE_SESSION, NULL, "", "", "success");
	assert_string_equal(session_agent_id(s), "");
	assert_string_equal(session_claim_id(s), "");
	session_free(&s);
	assert_int_equal(rmdir(state_dir), 0);
	assert_int_equal(rmdir(root), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void a_call_is_checked_by_its_handler(void **state)
{
	char dir[] = "/tmp/bullpen-calls-XXXXXX";
	const char *roots[1] = {dir};
	struct session_config cfg = {.roots = roots, .n_roots = 1, .state_dir = dir};
	struct session *s;

	assert_non_null(mkdtemp(dir));
	s = session_new(&cfg);
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{\"repoUrl\":1}", "invalid_arguments");
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{\"workOnCurrentBranch\":\"yes\"}", "invalid_arguments");
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "[]", "invalid_arguments");
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{", "invalid_arguments");
	assert_string_equal(session_agent_id(s), "");
	/* Newer than this program. */
	expect_job(s, (call_kind)77, "a", "1", "{}", "unknown_call");
	expect_job(s, BULLPEN__WORKER__V1__CALL_KIND__CALL_KIND_UNSPECIFIED, "a", "1", "{}", "unknown_call");
	session_free(&s);
	assert_int_equal(rmdir(dir), 0);
}

static void expect_failure(int rc, bool machine, const char *code)
{
	struct job j = {0};
	AUTO_JSON result = NULL;
	AUTO_FINI(session_failure)
	f = {.machine = machine,
	    .said = str_dup("remote: still counting"),
	    .kept = json_pack("{s:s}", "ref", "refs/bullpen/agents/a/work")};

	why_set(&f.why, rc, "git push took too long");
	job_error_of_session(&j, rc, "publish_failed", &f);
	assert_int_equal(j.outcome, TOOL_ERROR);
	assert_string_equal(j.model_text, "git push took too long");
	assert_int_equal(json_parse(j.result_json, strlen(j.result_json), &result, NULL), OK);
	assert_string_equal(json_string_value(json_object_get(result, "code")), code);
	assert_string_equal(json_string_value(json_object_get(result, "output")), "remote: still counting");
	assert_true(json_equal(json_object_get(result, "kept"), f.kept));
	job_fini(&j);
}

/* Whatever the failure was: the work that was kept has no other witness. */
static void a_failed_session_names_what_was_kept(void **state)
{
	expect_failure(ERR_INVALID, false, "publish_failed");
	expect_failure(ERR_TIMEOUT, false, "timeout");
	expect_failure(ERR_CANCELLED, false, "cancelled");
	expect_failure(ERR_NET, true, "worker_unfit");
	expect_failure(ERR_TIMEOUT, true, "worker_unfit");
	expect_failure(ERR_CANCELLED, true, "cancelled");
}

static void outcomes_can_always_be_sent(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "mute", "a", 0);
	start(&b, "c2", "huge", "a", 0);
	start(&b, "c3", "dirty", "a", 0);
	pump_until(&b, calls_unacknowledged(b.calls) == 3);
	assert_int_equal(count(&b, "c1 3 "), 1);
	assert_int_equal(count(&b, "c2 3 "), 1);
	assert_int_equal(count(&b, "c3 1 "), 1);
	b.refuse_results = 1;
	start(&b, "c4", "echo", "a", 0);
	pump_until(&b, count(&b, "c4 3 ") == 1);
	calls_refuse(b.calls, "worker_stopping", "stopping");
	start(&b, "c5", "echo", "a", 0);
	assert_int_equal(count(&b, "c5 3 "), 1);
	bench_fini(&b);
}

/* What was done was done: a result that is too large for the link is cut, its outcome is not. */
static void a_large_result_is_cut_and_keeps_its_outcome(void **state)
{
	struct bench b;
	AUTO_JSON result = NULL;
	const char *text;

	bench_init(&b);
	start(&b, "c1", "long", "a", 0);
	pump_until(&b, calls_unacknowledged(b.calls) == 1);
	assert_int_equal(count(&b, "c1 1 "), 1);
	assert_int_equal(json_parse(b.last_result, strlen(b.last_result), &result, NULL), OK);
	assert_true(strlen(b.last_result) < 4 << 20);
	assert_true(json_is_true(json_object_get(result, "truncated")));
	assert_int_equal(json_integer_value(json_object_get(result, "exitCode")), 0);
	text = json_string_value(json_object_get(json_array_get(json_object_get(result, "output"), 0), "text"));
	assert_non_null(strstr(text, "bytes left out"));
	bench_fini(&b);
}

static void output_is_coalesced_and_capped(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "talk", "a", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	assert_int_equal(b.output_bytes, 2000 * 40);
	assert_true(b.chunks <= 40);
	b.output_bytes = 0;
	start(&b, "c2", "flood", "a", 0);
	pump_until(&b, count(&b, "c2 1 ") == 1);
	assert_int_equal(b.output_bytes, OUTFLOW_TOTAL);
	bench_fini(&b);
}

/* A word about what a call is doing replaces the one before, and is none of its output. */
static void of_many_words_the_last_is_told(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "progress", "a", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	assert_string_equal(b.last_word, "file 99999");
	assert_true(b.words < 1000);
	assert_int_equal(b.output_bytes, 4);
	bench_fini(&b);
}

/* A full outbox slows a call down a little and never stops it. */
static void output_that_nobody_takes_is_dropped(void **state)
{
	struct bench b;
	int64_t start_ms = clock_mono_ms();

	bench_init(&b);
	b.output_rc = ERR_FULL;
	start(&b, "c1", "flood", "a", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	assert_int_equal(b.output_bytes, 0);
	assert_true(clock_mono_ms() - start_ms < 5000);
	bench_fini(&b);
}

static void backing_off(void **state)
{
	struct backoff b = {0};

	/* Failed dials: 0.5..1 of 1, 2, 4 … 60 s. */
	assert_int_equal(backoff_next(&b, -1, 0, 0), 500);
	assert_in_range(backoff_next(&b, -1, 0, UINT32_MAX), 1990, 2000);
	for (int i = 0; i < 20; i++)
		backoff_next(&b, -1, 0, 0);
	assert_int_equal(backoff_next(&b, -1, 0, 0), 30000);
	/* An established one that drops: at once, but once. */
	assert_int_equal(backoff_next(&b, BACKOFF_HEALTHY_MS, 0, 0), 0);
	assert_int_equal(backoff_next(&b, -1, 0, 0), 500);
	assert_int_equal(backoff_next(&b, 10, 0, 0), 1000);
	assert_int_equal(backoff_next(&b, 10, 0, 0), 2000);
	assert_int_equal(backoff_next(&b, BACKOFF_HEALTHY_MS, 0, 0), 0);
	/* What the control plane asks for, within reason. */
	assert_int_equal(backoff_next(&b, -1, 7000, 0), 7000);
	assert_int_equal(backoff_next(&b, -1, INT64_MAX, 0), BACKOFF_MAX_ASKED_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_repeated_call_is_not_repeated),
	    cmocka_unit_test(results_are_kept_until_acknowledged),
	    cmocka_unit_test(cancelling),
	    cmocka_unit_test(limits_are_enforced),
	    cmocka_unit_test(session_calls_run_alone),
	    cmocka_unit_test(another_agent_ends_the_calls_of_the_first),
	    cmocka_unit_test(closing_the_session_of_one_agent_leaves_another_alone),
	    cmocka_unit_test(a_late_close_leaves_the_next_claim_of_the_same_agent_alone),
	    cmocka_unit_test(a_close_that_waits_is_not_ended_by_the_next_opening),
	    cmocka_unit_test(a_close_that_waits_is_not_cancelled_with_the_rest),
	    cmocka_unit_test(a_session_that_is_being_closed_is_not_told_as_open),
	    cmocka_unit_test(a_call_is_checked_by_its_handler),
	    cmocka_unit_test(a_real_session_is_closed_by_its_own_agent_only),
	    cmocka_unit_test(a_failed_session_names_what_was_kept),
	    cmocka_unit_test(outcomes_can_always_be_sent),
	    cmocka_unit_test(a_large_result_is_cut_and_keeps_its_outcome),
	    cmocka_unit_test(output_is_coalesced_and_capped),
	    cmocka_unit_test(of_many_words_the_last_is_told),
	    cmocka_unit_test(output_that_nobody_takes_is_dropped),
	    cmocka_unit_test(backing_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
