/* The table of calls of a personal worker: several sessions at once, each in its own place. */
#include "calls_scene.h"

/* Opens a session of each agent in turn. */
static void open_all(struct bench *b, const char *const *agents, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		AUTO_STR id = str_printf("open-%s", agents[i]);
		AUTO_STR result = str_printf("%s 1 ", id);

		start(b, id, "OPEN", agents[i], 0);
		pump_until(b, count(b, result) == 1);
	}
}

static size_t told_sessions(struct bench *b, const char *agent, const char *claim)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	bool found = false;

	calls_fill_hello(b->calls, &h);
	/* They say which session the only place has. */
	assert_string_equal(h.agent_id, "");
	assert_string_equal(h.session_claim_id, "");
	for (size_t i = 0; i < h.n_sessions; i++)
		found |= strcmp(h.sessions[i]->agent_id, agent) == 0 && strcmp(h.sessions[i]->claim_id, claim) == 0;
	assert_true(found || agent[0] == '\0');
	return h.n_sessions;
}

static void agents_are_served_side_by_side(void **state)
{
	struct bench b;

	bench_init_for(&b, 3);
	open_all(&b, (const char *[]){"a", "b"}, 2);
	assert_int_equal(calls_sessions(b.calls), 2);
	assert_int_equal(told_sessions(&b, "a", "a"), 2);
	assert_int_equal(told_sessions(&b, "b", "b"), 2);
	start(&b, "a1", "wait", "a", 0);
	start(&b, "b1", "wait", "b", 0);
	pump_until(&b, started() == 4);
	/* A third comes and goes: nobody hears of it, though opening and closing run alone in their own place. */
	start(&b, "open-c", "OPEN", "c", 0);
	pump_until(&b, count(&b, "open-c 1 ") == 1);
	start(&b, "end-c", "CLOSE", "c", 0);
	pump_until(&b, count(&b, "end-c 1 ") == 1);
	assert_int_equal(count(&b, "a1 "), 0);
	assert_int_equal(count(&b, "b1 "), 0);
	release_one();
	release_one();
	pump_until(&b, count(&b, "a1 1 ") == 1 && count(&b, "b1 1 ") == 1);
	bench_fini(&b);
}

/* Where the first of the texts is in the log. */
static size_t place_of(struct bench *b, const char *text)
{
	const char *at = strstr(strbuf_str(&b->log), text);

	assert_non_null(at);
	return (size_t)(at - b->log.data);
}

static void news_come_behind_the_opening_and_again_after_a_fresh_start(void **state)
{
	struct bench b;

	bench_init_for(&b, 2);
	start_for(&b, "open-a", "OPEN", "a", "news-1", 0);
	pump_until(&b, count(&b, "news a news-1 early;") == 1);
	assert_true(place_of(&b, "open-a 1 ") < place_of(&b, "news a news-1 early;"));
	start_for(&b, "a1", "read", "a", "news-1", 0);
	pump_until(&b, count(&b, "news a news-1 later;") == 1);
	/* Only what is so now. */
	calls_resend(b.calls);
	assert_int_equal(count(&b, "news a news-1 later;"), 2);
	assert_int_equal(count(&b, "news a news-1 early;"), 1);
	/* A session that is closed has none. */
	start_for(&b, "end-a", "CLOSE", "a", "news-1", 0);
	pump_until(&b, count(&b, "end-a 1 ") == 1);
	calls_resend(b.calls);
	assert_int_equal(count(&b, "news a news-1 later;"), 2);
	bench_fini(&b);
}

static void closing_one_session_leaves_the_others(void **state)
{
	struct bench b;

	bench_init_for(&b, 2);
	open_all(&b, (const char *[]){"a", "b"}, 2);
	start(&b, "a1", "wait", "a", 0);
	start(&b, "b1", "wait", "b", 0);
	pump_until(&b, started() == 4);
	start(&b, "end-a", "CLOSE", "a", 0);
	pump_until(&b, count(&b, "end-a 1 ") == 1);
	assert_int_equal(count(&b, "a1 3 "), 1);
	assert_int_equal(count(&b, "b1 "), 0);
	assert_int_equal(told_sessions(&b, "b", "b"), 1);
	release_one();
	pump_until(&b, count(&b, "b1 1 ") == 1);
	bench_fini(&b);
}

/* What is for an agent without a session here has an answer, and touches none that there is. */
static void calls_go_to_the_session_of_their_agent(void **state)
{
	struct bench b;

	bench_init_for(&b, 2);
	open_all(&b, (const char *[]){"a"}, 1);
	start(&b, "a1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	start(&b, "x1", "echo", "x", 0);
	assert_int_equal(count(&b, "x1 3 "), 1);
	assert_int_equal(count(&b, "no_session"), 1);
	start(&b, "end-x", "CLOSE", "x", 0);
	assert_int_equal(count(&b, "end-x 1 {}"), 1);
	assert_int_equal(started(), 2);
	assert_int_equal(calls_active(b.calls), 1);
	release_one();
	pump_until(&b, count(&b, "a1 1 ") == 1);
	bench_fini(&b);
}

/* A new claim of the same agent takes the agent's place, not another one. */
static void an_agent_has_one_place(void **state)
{
	struct bench b;

	bench_init_for(&b, 2);
	start_for(&b, "open-1", "OPEN", "a", "claim-1", 0);
	start_for(&b, "a1", "wait", "a", "claim-1", 0);
	pump_until(&b, started() == 2);
	start_for(&b, "open-b", "OPEN", "b", "claim-b", 0);
	start_for(&b, "b1", "wait", "b", "claim-b", 0);
	pump_until(&b, started() == 4);
	start_for(&b, "open-2", "OPEN", "a", "claim-2", 0);
	pump_until(&b, count(&b, "open-2 1 ") == 1);
	assert_int_equal(count(&b, "a1 3 "), 1);
	/* Of another claim, but in another place too. */
	assert_int_equal(count(&b, "b1 "), 0);
	assert_int_equal(told_sessions(&b, "a", "claim-2"), 2);
	start_for(&b, "late", "CLOSE", "a", "claim-1", 0);
	pump_until(&b, count(&b, "late 1 ") == 1);
	assert_int_equal(told_sessions(&b, "a", "claim-2"), 2);
	release_one();
	pump_until(&b, count(&b, "b1 1 ") == 1);
	bench_fini(&b);
}

/* The close of the one before can come behind the opening that it makes room for. */
static void an_opening_waits_for_a_place(void **state)
{
	struct bench b;

	bench_init_for(&b, 2);
	open_all(&b, (const char *[]){"a", "b"}, 2);
	start(&b, "open-c", "OPEN", "c", 0);
	start(&b, "open-d", "OPEN", "d", 0);
	pump(&b);
	assert_int_equal(started(), 2);
	assert_int_equal(count(&b, "open-c "), 0);
	start(&b, "end-a", "CLOSE", "a", 0);
	pump_until(&b, count(&b, "end-a 1 ") == 1 && count(&b, "open-c 1 ") == 1);
	assert_int_equal(count(&b, "open-d "), 0);
	/* One that waits can be cancelled, also by the close of its own claim. */
	start(&b, "end-d", "CLOSE", "d", 0);
	assert_int_equal(count(&b, "open-d 3 "), 1);
	assert_int_equal(count(&b, "end-d 1 "), 1);
	assert_int_equal(calls_sessions(b.calls), 2);
	bench_fini(&b);
}

static void an_opening_without_a_place_is_refused_in_time(void **state)
{
	struct bench b;
	int64_t now = clock_mono_ms();

	bench_init_for(&b, 1);
	open_all(&b, (const char *[]){"a"}, 1);
	start(&b, "open-b", "OPEN", "b", 0);
	assert_true(calls_pump(b.calls, now) <= now + CALLS_PLACE_WAIT_MS + WAIT_MS);
	assert_int_equal(count(&b, "open-b "), 0);
	calls_pump(b.calls, clock_mono_ms() + CALLS_PLACE_WAIT_MS);
	assert_int_equal(count(&b, "open-b 3 "), 1);
	assert_int_equal(count(&b, "worker_full"), 1);
	assert_int_equal(calls_sessions(b.calls), 1);
	bench_fini(&b);
}

static void all_are_closed_at_the_end(void **state)
{
	struct bench b;

	bench_init_for(&b, 3);
	open_all(&b, (const char *[]){"a", "b"}, 2);
	start(&b, "a1", "wait", "a", 0);
	start(&b, "b1", "wait", "b", 0);
	pump_until(&b, started() == 4);
	calls_close_session(b.calls, "aborted", 0);
	assert_int_equal(told_sessions(&b, "", ""), 0);
	pump_until(&b, calls_active(b.calls) == 0);
	assert_int_equal(count(&b, "a1 3 "), 1);
	assert_int_equal(count(&b, "b1 3 "), 1);
	assert_int_equal(calls_sessions(b.calls), 0);
	/* Every place is free again. */
	open_all(&b, (const char *[]){"c", "d", "e"}, 3);
	assert_int_equal(calls_sessions(b.calls), 3);
	bench_fini(&b);
}

/* One agent with very many tools leaves threads for another. */
static void one_session_does_not_take_all_threads(void **state)
{
	struct bench b;

	bench_init_for(&b, 4);
	open_all(&b, (const char *[]){"a", "b"}, 2);
	for (int i = 0; i < 2 * CALLS_MAX_RUNNING; i++) {
		AUTO_STR id = str_printf("a%d", i);

		start(&b, id, "wait", "a", 0);
	}
	start(&b, "b1", "echo", "b", 0);
	pump_until(&b, count(&b, "b1 1 ") == 1);
	assert_int_equal(fake.most_running <= CALLS_MAX_RUNNING / 4 + 1, 1);
	bench_fini(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(agents_are_served_side_by_side),
	    cmocka_unit_test(news_come_behind_the_opening_and_again_after_a_fresh_start),
	    cmocka_unit_test(closing_one_session_leaves_the_others),
	    cmocka_unit_test(calls_go_to_the_session_of_their_agent),
	    cmocka_unit_test(an_agent_has_one_place),
	    cmocka_unit_test(an_opening_waits_for_a_place),
	    cmocka_unit_test(an_opening_without_a_place_is_refused_in_time),
	    cmocka_unit_test(all_are_closed_at_the_end),
	    cmocka_unit_test(one_session_does_not_take_all_threads),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
