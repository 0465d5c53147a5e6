/* What the pool's statements cost where there is much of everything: 10,000 workers of which all but a few have a
 * claim, as many requests that wait and a user with a cap. None may go through all claims, workers or requests. */
#include "base/labels.h"
#include "base/mem.h"
#include "server/fleet/claim_calls.h"
#include "server/fleet/fleet_rows.h"
#include "server/fleet/match.h"
#include "server/fleet/nearest.h"
#include "server/fleet/queue.h"
#include "server/fleet/queue_reasons.h"
#include "../store_fixture.h"

#define MANY 10000
#define STEPS_MAX 4000 /* of the database: a few dozen look-ups by index */
/* Goes once through the workers, which is what these are for; one look at the claims for each. */
#define STEPS_LINEAR_MAX (MANY * 60)

static struct tx *begin(struct store *st)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	return tx;
}

static void exec(struct tx *tx, const char *sql)
{
	assert_int_equal(tx_exec(tx, sql, ""), OK);
}

/* w0 to w9999 of pool gpu, all with a claim but w7; a0 to a9999 have them; b0 to b9999 wait for what nobody serves,
 * each tenth for user 7, who is at the cap. m is a machine of user 9. */
static void fill(struct store *st)
{
	static const struct labels none = {0};
	const struct slot slot = {"gpu", "a/x", ""};
	struct tx *tx = begin(st);

	exec(tx, "UPDATE teams SET max_active_per_user = 1");
	for (int i = 0; i < MANY; i++) {
		AUTO_STR w = str_printf("w%d", i);
		AUTO_STR a = str_printf("a%d", i);
		AUTO_STR b = str_printf("b%d", i);
		AUTO_STR id = str_printf("claim-%d", i);

		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id,"
			" workspace_root, busy, draining, connected_at, idle_since)"
			" VALUES(1, $1, 1, $1, 'gpu', 'k', 'sa', '/', 0, 0, $2, 0)",
			"si", w, (int64_t)i),
		    OK);
		assert_int_equal(slots_put(tx, 1, w, &slot, &none, 0), OK);
		if (i != 7)
			assert_int_equal(
			    tx_exec(tx,
				"INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, idle_since, pool, "
				"repo)"
				" VALUES($1, $2, 1, $3, 0, CASE WHEN $4 % 100 = 0 THEN $4 END, 'gpu', 'a/x')",
				"sssi", id, a, w, (int64_t)i),
			    OK);
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO requests(agent_id, run_id, team_id, pool, repo, repo_host, state, queued_at,"
			" attempts, user_id) VALUES($1, $1, 1, 'gpu', 'a/z', '', 'queued', $2, 0, CASE WHEN $2 % 10 = 0"
			" THEN 7 ELSE 0 END)",
			"si", b, (int64_t)i),
		    OK);
	}
	exec(tx, "UPDATE workers SET busy = 1 WHERE id <> 'w7'");
	exec(tx, "UPDATE worker_slots SET state = 0");
	exec(tx, "INSERT INTO requests(agent_id, run_id, team_id, pool, repo, repo_host, state, worker_id, queued_at, "
		 "attempts,"
		 " user_id) VALUES('a1', 'r', 1, 'gpu', 'a/x', '', 'serving', 'w1', 0, 0, 7)");
	assert_int_equal(slots_follow(tx, 1, "w7", 0), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static uint64_t from;

static void expect_at_most(struct store *st, uint64_t max, const char *what)
{
	uint64_t steps = store_work(st) - from;

	if (steps > max)
		fail_msg("%s took %llu steps", what, (unsigned long long)steps);
	from = store_work(st);
}

static char *add(struct tx *tx, const char *agent, int64_t user)
{
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	char *worker = NULL;
	const struct request r = {.agent_id = agent,
	    .run_id = agent,
	    .team_id = 1,
	    .pool = "gpu",
	    .repo = "a/x",
	    .repo_host = "",
	    .user_id = user};

	assert_int_equal(queue_add(tx, &r, MANY, &worker, &left), OK);
	return worker;
}

static void test_binding_looks_at_one_worker(void **state)
{
	__attribute__((cleanup(claim_left_fini))) struct claim_left left = {0};
	struct store *st = *state;
	AUTO_STR none = NULL;
	struct tx *tx;

	fill(st);
	tx = begin(st);
	from = store_work(st);
	AUTO_STR got = add(tx, "fits", 0);

	assert_string_equal(got, "w7");
	expect_at_most(st, STEPS_MAX, "a request that the only free worker takes");
	AUTO_STR capped = add(tx, "capped", 7);

	assert_null(capped);
	expect_at_most(st, STEPS_MAX, "a request of a user at the cap");
	assert_int_equal(queue_end(tx, "fits", MANY), OK);
	expect_at_most(st, STEPS_MAX, "the end of a turn");
	/* All that are idle are marked as it is done in life. */
	exec(tx, "UPDATE worker_slots SET state = 2 WHERE worker_id = 'w100'");
	from = store_work(st);
	AUTO_STR yielded = add(tx, "second", 0);

	assert_string_equal(yielded, "w100");
	expect_at_most(st, STEPS_MAX, "an idle claim that yields");
	assert_int_equal(claim_end(tx, "second", MANY), OK);
	expect_at_most(st, STEPS_MAX, "the end of a claim");
	assert_int_equal(queue_match_worker(tx, 1, "w200", MANY, &none, &left), ERR_EMPTY);
	expect_at_most(st, STEPS_MAX, "a worker that nobody waits for");
	tx_free(&tx);
}

static void test_looking_through_the_queue_costs_nothing_while_no_worker_is_free(void **state)
{
	struct queue_place place = {0};
	struct store *st = *state;
	AUTO_STR run = NULL;
	struct tx *tx;

	fill(st);
	tx = begin(st);
	exec(tx, "UPDATE worker_slots SET state = 0");
	from = store_work(st);
	assert_int_equal(queue_next(tx, &place, &run), ERR_EMPTY);
	expect_at_most(st, STEPS_MAX, "a look through the queue without a free worker");
	tx_free(&tx);
}

static void test_a_claim_call_looks_at_one_worker(void **state)
{
	struct store *st = *state;
	__attribute__((cleanup(claim_made_fini))) struct claim_made made = {0};
	struct claim_ask ask = {.team_id = 1, .agent_id = "b1", .worker_id = "new", .connect_by_ms = MANY};
	struct why why;
	struct tx *tx;

	fill(st);
	tx = begin(st);
	from = store_work(st);
	assert_int_equal(claim_reserve(tx, &ask, 1, &made, &why), OK);
	expect_at_most(st, STEPS_MAX, "a claim");
	ask.agent_id = "b2";
	ask.worker_id = "w1";
	assert_int_equal(claim_reserve(tx, &ask, 1, &made, &why), ERR_CONFLICT);
	expect_at_most(st, STEPS_MAX, "a claim of a worker that is bound");
	tx_free(&tx);
}

static void test_what_people_read_goes_once_through_the_workers(void **state)
{
	const struct fleet_page page = {
	    .team_id = 1, .scope = FLEET_ALL, .use = FLEET_IDLE, .limit = 100, .before_ms = INT64_MAX, .before_id = ""};
	AUTO_JSON summary = NULL;
	AUTO_JSON workers = NULL;
	AUTO_JSON pools = NULL;
	AUTO_JSON worker = NULL;
	AUTO_JSON wait = json_object();
	AUTO_STR next = NULL;
	struct store *st = *state;
	int64_t total = 0, next_ms = 0;
	struct tx *tx;

	fill(st);
	tx = begin(st);
	from = store_work(st);
	assert_int_equal(fleet_summary(tx, 1, &summary), OK);
	assert_int_equal(json_integer_value(json_object_get(summary, "inUse")), MANY - 1);
	expect_at_most(st, STEPS_LINEAR_MAX, "the summary");
	assert_int_equal(fleet_workers(tx, &page, &workers, &total, &next_ms, &next), OK);
	assert_int_equal(total, 1);
	expect_at_most(st, 2 * STEPS_LINEAR_MAX, "a page of idle workers");
	assert_int_equal(fleet_worker(tx, 1, &(const struct fleet_person){0}, "w9", &worker), OK);
	expect_at_most(st, STEPS_MAX, "one worker");
	assert_int_equal(fleet_pools(tx, 1, true, 1, &pools), OK);
	expect_at_most(st, 2 * STEPS_LINEAR_MAX, "the pools");
	assert_int_equal(nearest_put(tx, "b1", true, wait), OK);
	assert_int_equal(json_array_size(json_object_get(wait, "nearest")), 3);
	/* 200 are looked at: not those of other pools, however many there are. */
	expect_at_most(st, 200 * 200, "the nearest workers");
	tx_free(&tx);
}

/* A page of a queue of thousands behind thousands of workers that are busy: each has the reason that it has by itself.
 */
static void test_a_page_of_reasons_costs_little_more_than_one(void **state)
{
	AUTO_JSON page = json_array();
	struct store *st = *state;
	json_t *request;
	struct tx *tx;
	size_t i;

	fill(st);
	tx = begin(st);
	exec(tx, "UPDATE teams SET max_active_per_user = 0");
	exec(tx, "UPDATE worker_slots SET state = 0");
	exec(tx, "UPDATE requests SET repo = 'a/x' WHERE queued_at % 3 = 0");
	exec(tx, "UPDATE requests SET labels = '[\"k=v\"]', label = 'k=v' WHERE queued_at % 50 = 0");
	for (int k = 5000; k < 5100; k++) {
		AUTO_STR id = str_printf("b%d", k);

		json_array_append_new(page, json_pack("{s:s}", "id", id));
	}
	json_array_append_new(page, json_pack("{s:s}", "id", "gone"));
	from = store_work(st);
	assert_int_equal(queue_put_reasons(tx, page, MANY, 1000), OK);
	/* Two with labels go their own way. */
	expect_at_most(st, 8 * STEPS_LINEAR_MAX, "a page of reasons");
	json_array_foreach(page, i, request)
	{
		AUTO_JSON wait = NULL;
		int rc = queue_wait_reason(tx, json_string_value(json_object_get(request, "id")), MANY, 1000, &wait);

		assert_int_equal(rc, i < 100 ? OK : ERR_EMPTY);
		if (i == 100)
			assert_null(json_object_get(request, "wait"));
		else
			assert_true(json_equal(wait, json_object_get(request, "wait")));
	}
	assert_string_equal(
	    json_string_value(json_object_get(json_object_get(json_array_get(page, 1), "wait"), "code")), "all_busy");
	tx_free(&tx);
}

#define TEST(name) cmocka_unit_test_setup_teardown(test_##name, store_setup, store_teardown)

int main(void)
{
	const struct CMUnitTest t[] = {TEST(binding_looks_at_one_worker),
	    TEST(looking_through_the_queue_costs_nothing_while_no_worker_is_free),
	    TEST(a_claim_call_looks_at_one_worker), TEST(what_people_read_goes_once_through_the_workers),
	    TEST(a_page_of_reasons_costs_little_more_than_one)};

	return cmocka_run_group_tests(t, NULL, NULL);
}
