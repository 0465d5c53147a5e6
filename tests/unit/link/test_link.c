/* The link as two applications see it; hostile peers are in test_link_hostile.c. */
#include "harness.h"
#include <time.h>

static uint64_t random_state;

static uint32_t random_below(uint32_t bound)
{
	/* xorshift64*: the same on every machine for a given seed. */
	random_state ^= random_state >> 12;
	random_state ^= random_state << 25;
	random_state ^= random_state >> 27;
	return (uint32_t)((random_state * 0x2545F4914F6CDD1Du) >> 33) % bound;
}

static void expect_all_done_once(const struct world *w)
{
	for (unsigned i = 0; i < w->n_calls; i++) {
		assert_int_equal(w->calls[i].executed, 1);
		assert_int_equal(w->calls[i].results, 1);
		assert_false(w->calls[i].known);
	}
	assert_true(w->in_order);
}

static void handshake_then_calls_and_results(void **state)
{
	struct world w;

	world_init(&w);
	assert_false(link_attached(w.worker));
	assert_true(link_next_tick(w.worker) == INT64_MAX);
	world_connect(&w);
	assert_true(link_attached(w.worker));
	assert_false(link_ready(w.worker));
	world_settle(&w);
	assert_true(w.welcomed && link_ready(w.worker) && link_ready(w.server));
	assert_true(link_peer_incarnation(w.worker) == w.server_incarnation);
	assert_true(link_peer_incarnation(w.server) == w.worker_incarnation);
	for (int i = 0; i < 20; i++)
		world_call(&w);
	world_settle(&w);
	expect_all_done_once(&w);
	assert_int_equal(w.outputs, 20);
	/* The last acknowledgement comes by the clock. */
	w.now += 1001;
	assert_int_equal(link_tick(w.worker, w.now, NULL), OK);
	assert_int_equal(link_tick(w.server, w.now, NULL), OK);
	world_settle(&w);
	assert_int_equal(link_unacked_bytes(w.worker), 0);
	assert_int_equal(link_unacked_bytes(w.server), 0);
	world_fini(&w);
}

static void bytes_may_be_cut_anywhere(void **state)
{
	for (size_t piece = 1; piece < 40; piece++) {
		struct world w;

		world_init(&w);
		world_connect(&w);
		for (int i = 0; i < 3; i++)
			world_call(&w);
		do {
			world_flush(&w);
			world_deliver(&w, true, piece);
			world_deliver(&w, false, piece);
			world_flush(&w);
		} while (w.to_server.len + w.to_worker.len > 0);
		expect_all_done_once(&w);
		world_fini(&w);
	}
}

/* The connection ends after every possible number of bytes in each direction. */
static void every_prefix_lost_then_resumed(void **state)
{
	for (size_t up = 0; up < 400; up += 3) {
		for (size_t down = 0; down < 200; down += 7) {
			struct world w;

			world_init(&w);
			world_connect(&w);
			world_settle(&w);
			for (int i = 0; i < 4; i++)
				world_call(&w);
			world_flush(&w);
			world_deliver(&w, false, down);
			world_flush(&w);
			world_deliver(&w, true, up);
			world_flush(&w);
			world_deliver(&w, false, down / 2);
			world_cut_worker(&w);
			world_connect(&w);
			world_settle(&w);
			assert_int_equal(w.resumed, 1);
			expect_all_done_once(&w);
			world_fini(&w);
		}
	}
}

static uint64_t pick_seed(void)
{
	const char *given = getenv("LINK_SEED");
	uint64_t seed = given != NULL ? strtoull(given, NULL, 10) : (uint64_t)time(NULL) * 1000003u + 1;

	print_message("# LINK_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

static void random_step(struct world *w)
{
	uint32_t dice = random_below(100);

	if (dice < 10 && w->n_calls < 40)
		world_call(w);
	else if (dice < 50)
		world_flush(w);
	else if (dice < 70)
		world_deliver(w, true, 1 + random_below(dice & 1 ? 30 : 600));
	else if (dice < 90)
		world_deliver(w, false, 1 + random_below(dice & 1 ? 30 : 600));
	else if (dice < 93)
		world_cut_worker(w);
	else if (dice < 94)
		world_cut_server(w);
	else if (dice < 99 && !w->worker_up)
		world_connect(w);
	else if (dice == 99) {
		w->now += random_below(2000);
		IGNORE(link_tick(w->worker, w->now, NULL));
		if (w->server != NULL)
			IGNORE(link_tick(w->server, w->now, NULL));
	}
	/* A half-open connection gets noticed. */
	if (w->worker_up && !w->server_up && dice < 20)
		world_cut_worker(w);
}

static void finish(struct world *w)
{
	world_cut_worker(w);
	world_connect(w);
	world_settle(w);
	world_settle(w);
}

static void random_schedules_lose_nothing(void **state)
{
	uint64_t seed = pick_seed();
	unsigned resumed = 0;

	for (unsigned round = 0; round < 3000; round++) {
		struct world w;

		random_state = seed + round * 7919 + 1;
		world_init(&w);
		world_connect(&w);
		world_settle(&w);
		for (int i = 0; i < 300; i++)
			random_step(&w);
		finish(&w);
		if (w.started != 1)
			fail_msg("round %u: a connection was not resumed", round);
		resumed += w.resumed;
		expect_all_done_once(&w);
		world_fini(&w);
	}
	assert_true(resumed > 3000);
}

/* Either process may end at any time, and the first welcome may be lost: nothing is done twice, nothing is forgotten.
 */
static void random_restarts_do_nothing_twice(void **state)
{
	uint64_t seed = pick_seed();
	unsigned fresh = 0, resumed = 0;

	for (unsigned round = 0; round < 3000; round++) {
		struct world w;
		bool worker_restarted = false;

		random_state = seed + round * 104729 + 1;
		world_init(&w);
		for (int i = 0; i < 300; i++) {
			uint32_t dice = random_below(150);

			if (dice == 0) {
				world_restart_worker(&w);
				worker_restarted = true;
			} else if (dice == 1) {
				world_restart_server(&w);
			} else {
				random_step(&w);
			}
		}
		finish(&w);
		for (unsigned i = 0; i < w.n_calls; i++) {
			if (w.calls[i].executed > 1)
				fail_msg("round %u: call %u was done twice", round, i + 1);
			if (w.calls[i].answered + w.calls[i].interrupted != 1)
				fail_msg("round %u: call %u has no end", round, i + 1);
			assert_false(w.calls[i].interrupted && !worker_restarted);
		}
		fresh += w.started;
		resumed += w.resumed;
		world_fini(&w);
	}
	assert_true(fresh > 3000 && resumed > 1000);
}

static void server_restart_starts_again(void **state)
{
	struct world w;

	world_init(&w);
	world_connect(&w);
	world_call(&w);
	world_settle(&w);
	world_call(&w);
	world_flush(&w);
	world_deliver(&w, false, SIZE_MAX); /* the worker has it, the server will not hear */
	world_restart_server(&w);
	world_cut_worker(&w);
	world_connect(&w);
	world_settle(&w);
	assert_int_equal(w.started, 2);
	expect_all_done_once(&w);
	world_call(&w);
	world_settle(&w);
	expect_all_done_once(&w);
	world_fini(&w);
}

/* A call that was not taken before a fresh start belongs to the server's past. */
static void a_fresh_start_drops_events(void **state)
{
	struct world w;
	struct link_event e;
	unsigned calls = 0;

	world_init(&w);
	world_connect(&w);
	world_settle(&w);
	world_call(&w);
	world_flush(&w);
	assert_int_equal(link_feed(w.worker, w.to_worker.data, w.to_worker.len, w.now, NULL), OK);
	world_cut_worker(&w);
	world_restart_server(&w);
	world_connect(&w);
	world_flush(&w);
	world_deliver(&w, true, SIZE_MAX);
	world_flush(&w);
	assert_int_equal(link_feed(w.worker, w.to_worker.data, w.to_worker.len, w.now, NULL), OK);
	assert_int_equal(link_next(w.worker, &e), OK);
	assert_int_equal(e.kind, LINK_WELCOME);
	while (link_next(w.worker, &e) == OK)
		calls += e.kind == LINK_CALL;
	assert_int_equal(calls, 1);
	world_fini(&w);
}

/* A welcome that the worker never saw must not be resumed: its numbers are of an older link. */
static void a_lost_fresh_welcome_is_not_resumed(void **state)
{
	struct world w;

	world_init(&w);
	world_connect(&w);
	world_settle(&w);
	for (int i = 0; i < 5; i++)
		world_call(&w);
	world_settle(&w);
	world_cut_worker(&w);
	link_free(&w.server); /* the server forgets, with the same incarnation */
	world_connect(&w);
	world_flush(&w);
	world_deliver(&w, true, SIZE_MAX);
	/* The worker has ten frames of the old link; more than that count as sent on the new one. */
	for (int i = 0; i < 12; i++)
		world_call(&w);
	world_flush(&w);
	world_cut_worker(&w);
	world_connect(&w);
	world_settle(&w);
	assert_int_equal(w.resumed, 0);
	expect_all_done_once(&w);
	world_fini(&w);
}

static void refused(void **state)
{
	struct world w;
	struct link_event e;
	const void *bytes;
	size_t n;

	world_init(&w);
	world_connect(&w);
	n = link_out(w.worker, &bytes);
	assert_int_equal(link_feed(w.fresh, bytes, n, w.now, NULL), OK);
	assert_int_equal(link_next(w.fresh, &e), OK);
	assert_int_equal(e.kind, LINK_HELLO);
	assert_string_equal(e.hello->worker_id, "w1");
	assert_int_equal(e.hello->protocol_version, 1);
	link_refuse(w.fresh, "worker_connected", "this worker id is connected", false, 5000);
	n = link_out(w.fresh, &bytes);
	assert_int_equal(link_feed(w.worker, bytes, n, w.now, NULL), OK);
	assert_int_equal(link_next(w.worker, &e), OK);
	assert_int_equal(e.kind, LINK_REFUSED);
	assert_string_equal(e.refuse->code, "worker_connected");
	assert_int_equal(e.refuse->retry_after_ms, 5000);
	assert_false(link_ready(w.worker));
	world_fini(&w);
}

static void quiet_connection_has_heartbeats(void **state)
{
	struct world w;
	int64_t start;

	world_init(&w);
	world_connect(&w);
	world_settle(&w);
	start = w.now;
	while (w.now < start + 300000) {
		w.now = MIN(link_next_tick(w.server), link_next_tick(w.worker));
		assert_true(w.now > start);
		assert_int_equal(link_tick(w.server, w.now, NULL), OK);
		assert_int_equal(link_tick(w.worker, w.now, NULL), OK);
		world_settle(&w);
	}
	world_fini(&w);
}

static void dead_peers_are_noticed(void **state)
{
	struct world w;
	struct why why = {""};

	world_init(&w);
	world_connect(&w);
	world_settle(&w);
	w.now += 15000;
	assert_int_equal(link_tick(w.server, w.now, &why), OK);
	world_flush(&w);
	assert_true(w.to_worker.len > 0);
	strbuf_clear(&w.to_worker); /* lost */
	w.now += 29999;
	assert_int_equal(link_tick(w.server, w.now, &why), OK);
	assert_int_equal(link_tick(w.worker, w.now, &why), OK);
	w.now += 1;
	assert_int_equal(link_tick(w.server, w.now, &why), ERR_TIMEOUT);
	assert_int_equal(link_tick(w.worker, w.now, &why), ERR_TIMEOUT);
	assert_non_null(strstr(why.text, "45000"));
	world_fini(&w);
}

static void handshake_has_a_deadline(void **state)
{
	struct world w;

	world_init(&w);
	world_connect(&w);
	assert_true(link_next_tick(w.worker) == w.now + 30000);
	w.now += 29999;
	assert_int_equal(link_tick(w.worker, w.now, NULL), OK);
	assert_int_equal(link_tick(w.fresh, w.now, NULL), OK);
	w.now += 1;
	assert_int_equal(link_tick(w.worker, w.now, NULL), ERR_TIMEOUT);
	assert_int_equal(link_tick(w.fresh, w.now, NULL), ERR_TIMEOUT);
	world_fini(&w);
}

static void output_is_bounded(void **state)
{
	static char chunk[16 * 1024];
	struct world w;
	unsigned n = 0;

	world_init(&w);
	world_connect(&w);
	world_settle(&w);
	while (link_send_output(w.worker, "c1", 1, chunk, sizeof chunk) == OK)
		assert_true(++n < 100);
	assert_int_equal(link_send_output(w.worker, "c1", 1, chunk, sizeof chunk), ERR_FULL);
	assert_true(link_unacked_bytes(w.worker) <= 256 * 1024);
	assert_true(n >= 14);
	/* The peer's acknowledgements make room without any clock. */
	world_settle(&w);
	assert_int_equal(w.outputs, n);
	assert_int_equal(link_send_output(w.worker, "c1", 1, chunk, sizeof chunk), OK);
	world_fini(&w);
}

static void what_the_peer_would_not_take_is_not_sent(void **state)
{
	Bullpen__Worker__V1__CallResult m = BULLPEN__WORKER__V1__CALL_RESULT__INIT;
	struct world w;
	AUTO_STR big = mem_alloc(5 << 20);

	memset(big, 'x', 5 << 20);
	big[(5 << 20) - 1] = '\0';
	world_init(&w);
	m.call_id = "c1";
	m.model_text = big;
	assert_int_equal(link_send_result(w.worker, &m), ERR_TOO_LARGE);
	m.model_text = "\xff";
	assert_int_equal(link_send_result(w.worker, &m), ERR_INVALID);
	m.model_text = "";
	m.call_id = "";
	assert_int_equal(link_send_result(w.worker, &m), ERR_INVALID);
	assert_int_equal(link_unacked_bytes(w.worker), 0);
	world_fini(&w);
}

/* Said while the connection is away, behind what was said before: the newest word comes last. */
static void fitness_survives_a_resumed_connection(void **state)
{
	struct world w;

	world_init(&w);
	world_connect(&w);
	world_settle(&w);
	link_send_fitness(w.worker, "no_space", "first");
	world_cut_worker(&w);
	world_cut_server(&w);
	link_send_fitness(w.worker, "", "");
	world_connect(&w);
	world_settle(&w);
	assert_int_equal(w.resumed, 1);
	assert_int_equal(w.fitness_heard, 2);
	assert_string_equal(w.fitness_code, "");
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(handshake_then_calls_and_results),
	    cmocka_unit_test(bytes_may_be_cut_anywhere),
	    cmocka_unit_test(every_prefix_lost_then_resumed),
	    cmocka_unit_test(random_schedules_lose_nothing),
	    cmocka_unit_test(random_restarts_do_nothing_twice),
	    cmocka_unit_test(server_restart_starts_again),
	    cmocka_unit_test(a_lost_fresh_welcome_is_not_resumed),
	    cmocka_unit_test(a_fresh_start_drops_events),
	    cmocka_unit_test(refused),
	    cmocka_unit_test(quiet_connection_has_heartbeats),
	    cmocka_unit_test(dead_peers_are_noticed),
	    cmocka_unit_test(handshake_has_a_deadline),
	    cmocka_unit_test(output_is_bounded),
	    cmocka_unit_test(what_the_peer_would_not_take_is_not_sent),
	    cmocka_unit_test(fitness_survives_a_resumed_connection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
