/* What the queue and the pools looked like: waits as percentiles, looks that are put together, gaps, hours of old
 * minutes, and what is forgotten. */
#include "../store_fixture.h"
#include "server/fleet/history.h"
#include "server/fleet/history_rows.h"

#define MINUTE ((int64_t)60 * 1000)
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define NOW (INT64_C(20000) * DAY) /* on a full hour */

static struct store *st;

static int setup(void **state)
{
	int rc = store_setup(state);

	st = *state;
	return rc;
}

/* The store keeps statements by their address, so each is a literal. */
static struct tx *begin(void)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	return tx;
}

static void end(struct tx *tx, int rc)
{
	if (rc != OK)
		tx_free(&tx);
	assert_int_equal(rc, OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void add_request(const char *agent, const char *pool, int64_t at)
{
	struct tx *tx = begin();

	end(tx, tx_exec(tx,
		    "INSERT INTO requests(agent_id, run_id, team_id, pool, repo, repo_host, state, queued_at, attempts)"
		    " VALUES($1, $1, 1, $2, '', '', 'queued', $3, 0)",
		    "ssi", agent, pool, at));
}

static void add_worker(const char *id, const char *pool)
{
	struct tx *tx = begin();

	end(tx,
	    tx_exec(tx,
		"INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id, workspace_root, "
		"busy, draining, connected_at, idle_since) VALUES(1, $1, 1, '', $2, 'k', 'sa', '/', 0, 0, 0, 0)",
		"ss", id, pool));
}

static void add_claim(const char *agent, const char *worker)
{
	struct tx *tx = begin();

	end(tx, tx_exec(tx, "INSERT INTO claims(agent_id, team_id, worker_id, created_at) VALUES($1, 1, $2, 0)", "ss",
		    agent, worker));
}

/* It got a worker at `at`. */
static void claim(const char *agent, const char *pool, int64_t seq, int64_t at)
{
	struct tx *tx = begin();
	int rc = tx_exec(tx,
	    "INSERT INTO queue_events(team_id, seq, at, kind, agent_id, pool, repo, repo_host) VALUES(1, $1, $2, "
	    "'claimed', "
	    "$3, $4, '', '')",
	    "iiss", seq, at, agent, pool);

	if (rc == OK)
		rc = tx_exec(tx, "UPDATE requests SET state = 'claimed' WHERE agent_id = $1", "s", agent);
	end(tx, rc);
}

static void damage_waits(void)
{
	struct tx *tx = begin();

	end(tx, tx_exec(tx, "UPDATE fleet_samples SET waits = 'rubbish'", ""));
}

static json_t *points(int64_t from, int64_t to, int64_t step, const char *pool)
{
	const struct history_query hq = {.team_id = 1, .from_ms = from, .to_ms = to, .step_ms = step, .pool = pool};
	AUTO(tx) tx = NULL;
	json_t *out = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(history_points(tx, &hq, &out), OK);
	return out;
}

static double number(const json_t *list, size_t i, const char *name)
{
	const json_t *v = json_object_get(json_array_get(list, i), name);

	assert_true(json_is_number(v));
	return json_number_value(v);
}

static int64_t count_rows(void)
{
	AUTO(tx) tx = NULL;
	int64_t n = 0;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_int(tx, &n, "SELECT COUNT(*) FROM fleet_samples", ""), OK);
	return n;
}

static void test_percentiles(void **state)
{
	static const int64_t sizes[] = {0, 1, 2, 3, 7, 100, 999, 60000, 3600000, INT64_C(1) << 39, INT64_MAX};
	struct waits w = {0};

	assert_int_equal(waits_percentile(&w, 50), -1);
	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		struct waits one = {0};
		int64_t got, exact = MIN(sizes[i], INT64_C(1) << 39);

		waits_add(&one, sizes[i]);
		got = waits_percentile(&one, 95);
		assert_true(got >= exact - exact / 5 - 1 && got <= exact + exact / 5 + 1);
	}
	waits_add(&w, -5); /* clocks go back */
	for (int64_t i = 1; i < 1000; i++)
		waits_add(&w, i * 100);
	assert_in_range(waits_percentile(&w, 50), 40000, 60000);
	assert_in_range(waits_percentile(&w, 95), 76000, 114000);
	assert_true(waits_percentile(&w, 0) <= 1);
}

static void test_look(void **state)
{
	AUTO_JSON all = NULL;
	AUTO_JSON gpu = NULL;

	add_request("a", "gpu", NOW - 5000);
	add_request("b", "gpu", NOW - 3000);
	add_request("c", "cpu", NOW - 9000);
	add_worker("w1", "cpu");
	add_worker("w2", "cpu");
	add_claim("z", "w2");
	assert_int_equal(history_look(st, NOW + 1000, MINUTE), OK);
	claim("a", "gpu", 1, NOW + 20000);
	assert_int_equal(history_look(st, NOW + 30000, MINUTE), OK); /* the same minute: after a restart */
	all = points(NOW, NOW + MINUTE, MINUTE, NULL);
	assert_int_equal(json_array_size(all), 1);
	assert_true(number(all, 0, "queued") == 2.5 && number(all, 0, "queuedMax") == 3);
	assert_true(
	    number(all, 0, "workers") == 2 && number(all, 0, "busy") == 1 && number(all, 0, "utilization") == 0.5);
	assert_int_equal(number(all, 0, "oldestWaitMs"), 39000);
	assert_int_equal(number(all, 0, "started"), 1);
	assert_in_range((int64_t)number(all, 0, "waitP50Ms"), 20000, 30000);
	gpu = points(NOW, NOW + MINUTE, MINUTE, "gpu");
	assert_true(number(gpu, 0, "queued") == 1.5 && number(gpu, 0, "workers") == 0);
	assert_null(json_object_get(json_array_get(gpu, 0), "utilization"));
	/* None of the events is counted again, none is left out. */
	claim("b", "gpu", 2, NOW + 30000);
	assert_int_equal(history_look(st, NOW + MINUTE, MINUTE), OK);
	json_drop(&all);
	all = points(NOW, NOW + 2 * MINUTE, MINUTE, NULL);
	assert_int_equal(json_array_size(all), 2);
	assert_int_equal(number(all, 0, "started"), 1);
	assert_int_equal(number(all, 1, "started"), 1);
}

static void test_gap(void **state)
{
	AUTO_JSON found = NULL;
	AUTO_JSON nobody = NULL;

	for (int64_t i = 0; i < 10; i++)
		if (i < 3 || i > 6)
			assert_int_equal(history_look(st, NOW + i * MINUTE, MINUTE), OK);
	found = points(NOW, NOW + 10 * MINUTE, MINUTE, NULL);
	assert_int_equal(json_array_size(found), 6); /* nothing waited, and that is known; of the rest nothing is */
	assert_int_equal(number(found, 3, "atMs"), NOW + 7 * MINUTE);
	assert_true(number(found, 3, "queued") == 0);
	nobody = points(NOW, NOW + 10 * MINUTE, MINUTE, "no such pool");
	assert_int_equal(json_array_size(nobody), 6);
}

static void test_thin(void **state)
{
	AUTO_JSON found = NULL;
	bool more = true;
	int64_t before;

	add_request("a", "gpu", NOW);
	for (int64_t i = 0; i < 120; i += 10)
		assert_int_equal(history_look(st, NOW + i * MINUTE, MINUTE), OK);
	before = count_rows();
	assert_int_equal(history_thin(st, NOW + DAY, &more), OK);
	assert_int_equal(count_rows(), before);
	assert_false(more);
	/* One hour and a half are older than two days: the first of them is put together, and so is the second as far
	 * as it goes, with what it has of younger minutes. */
	assert_int_equal(history_thin(st, NOW + HISTORY_MINUTES_MS + 90 * MINUTE, &more), OK);
	found = points(NOW, NOW + 2 * HOUR, HOUR, NULL);
	assert_int_equal(json_array_size(found), 2);
	assert_true(number(found, 0, "queued") == 1 && number(found, 1, "queued") == 1);
	assert_int_equal(count_rows(), 4); /* '' and gpu of each hour */
	assert_int_equal(history_thin(st, NOW + HISTORY_MINUTES_MS + 90 * MINUTE, &more), OK);
	assert_int_equal(count_rows(), 4);
	assert_int_equal(history_thin(st, NOW + HISTORY_KEEP_MS + HOUR, &more), OK);
	assert_int_equal(count_rows(), 2);
	assert_int_equal(history_thin(st, NOW + 100 * DAY, &more), OK);
	assert_int_equal(count_rows(), 0);
}

/* Names of pools are their workers' choice: how many rows a minute makes is bounded. */
static void test_many_pools(void **state)
{
	AUTO_JSON all = NULL;

	for (int i = 0; i < 150; i++) {
		AUTO_STR name = str_printf("p%d", i);

		add_request(name, name, NOW);
	}
	assert_int_equal(history_look(st, NOW, MINUTE), OK);
	assert_int_equal(count_rows(), 101);
	all = points(NOW, NOW + MINUTE, MINUTE, NULL);
	assert_true(number(all, 0, "queued") == 150);
	damage_waits();
	json_drop(&all);
	all = points(NOW, NOW + MINUTE, MINUTE, NULL);
	assert_true(number(all, 0, "queued") == 150);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_percentiles),
	    cmocka_unit_test_setup_teardown(test_look, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_gap, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_thin, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_many_pools, setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
