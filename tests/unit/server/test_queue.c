/* Matching and claims on a real store: the vectors of the routing rules, order, and that no worker is given twice. */
#include "../store_fixture.h"
#include "base/clock.h"
#include "server/fleet/fleet.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/pools.h"
#include "server/fleet/queue.h"
#include "server/fleet/slots.h"
#include <pthread.h>
#include <poll.h>

static struct store *st;

static int setup(void **state)
{
	int rc = store_setup(state);

	st = *state;
	return rc;
}

static struct tx *begin(void)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	return tx;
}

/* A connected worker with one slot a repository; `repos` is "a/x a/y" or "" for any. */
static void add_worker(const char *id, const char *pool, const char *repos, const char *host, int64_t idle_since)
{
	struct tx *tx = begin();
	AUTO_STR list = str_dup(repos[0] ? repos : "-");
	char *save = NULL;

	assert_int_equal(
	    tx_exec(tx,
		"INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id, workspace_root, "
		"busy,"
		" draining, connected_at, idle_since) VALUES(1, $1, 1, $1, $2, 'k', 'sa', '/', 0, 0, 0, $3)",
		"ssi", id, pool, idle_since),
	    OK);
	for (char *r = strtok_r(list, " ", &save); r != NULL; r = strtok_r(NULL, " ", &save)) {
		const char *repo = strcmp(r, "-") == 0 ? "" : r;

		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO worker_slots(team_id, pool, repo, repo_host, worker_id, state, idle_since)"
			" VALUES(1, $1, $2, $3, $4, 1, $5)",
			"ssssi", pool, repo, host, id, idle_since),
		    OK);
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO pools(team_id, name, repo, repo_host, repo_name, first_seen_at, last_seen_at)"
			" VALUES(1, $1, $2, $3, $2, 0, 0) ON CONFLICT DO NOTHING",
			"sss", pool, repo, host),
		    OK);
	}
	assert_int_equal(tx_commit(&tx), OK);
}

/* Adds a request; the worker it got, or NULL. */
static char *add_request(const char *agent, const char *pool, const char *repo, const char *host, int64_t now)
{
	struct tx *tx = begin();
	AUTO_STR run = str_printf("run-%s", agent);
	char *worker = NULL;
	struct claim_left left = {0};
	const struct request r = {
	    .agent_id = agent, .run_id = run, .team_id = 1, .pool = pool, .repo = repo, .repo_host = host};

	assert_int_equal(queue_add(tx, &r, now, &worker, &left), OK);
	assert_int_equal(tx_commit(&tx), OK);
	claim_left_fini(&left);
	return worker;
}

static void end_turn(const char *agent, int64_t now)
{
	struct tx *tx = begin();

	assert_int_equal(queue_end(tx, agent, now), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

struct vector {
	const char *pool, *repos, *host; /* the worker */
	const char *want_pool, *want_repo, *want_host;
	bool match;
};

static void test_vectors(void **state)
{
	static const struct vector vectors[] = {
	    {"default", "a/x", "", "default", "a/x", "", true},
	    {"default", "a/x", "", "default", "a/y", "", false},
	    {"gpu", "a/x", "", "default", "a/x", "", false},
	    {"gpu", "a/x", "", "GPU", "a/x", "", false},
	    {"gpu", "a/x a/y", "", "gpu", "a/y", "", true},
	    {"any", "", "", "any", "", "", true},
	    {"any", "a/x", "", "any", "", "", false},
	    {"default", "", "", "default", "a/x", "", false},
	    {"gpu", "a/x", "h1", "gpu", "a/x", "h2", false},
	    {"gpu", "a/x", "", "gpu", "a/x", "h2", true},
	    {"gpu", "a/x", "h1", "gpu", "a/x", "h1", true},
	};

	for (size_t i = 0; i < ARRAY_LEN(vectors); i++) {
		const struct vector *v = &vectors[i];

		if (i > 0) {
			store_teardown(state);
			setup(state);
		}
		add_worker("w", v->pool, v->repos, v->host, 0);
		AUTO_STR got = add_request("a", v->want_pool, v->want_repo, v->want_host, 1);

		if ((got != NULL) != v->match)
			fail_msg("vector %zu", i);
	}
}

static void test_a_busy_worker_is_not_given_twice(void **state)
{
	add_worker("w", "default", "a/x", "", 0);
	AUTO_STR first = add_request("a", "default", "a/x", "", 1);
	AUTO_STR second = add_request("b", "default", "a/x", "", 2);

	assert_string_equal(first, "w");
	assert_null(second);
}

static void test_longest_idle_worker_first(void **state)
{
	add_worker("w1", "default", "a/x", "", 50);
	add_worker("w2", "default", "a/x", "", 20);
	AUTO_STR got = add_request("a", "default", "a/x", "", 60);

	assert_string_equal(got, "w2");
}

static void test_oldest_matching_request_first(void **state)
{
	struct queue_place place = {0};
	AUTO_STR run = NULL;
	AUTO_STR worker = NULL;

	free(add_request("other-repo", "default", "a/y", "", 1));
	free(add_request("young", "default", "a/x", "", 3));
	free(add_request("old", "default", "a/x", "", 2));
	add_worker("w", "default", "a/x", "", 9);
	struct tx *tx = begin();

	assert_int_equal(queue_next(tx, &place, &run), OK);
	assert_string_equal(place.agent_id, "old");
	assert_string_equal(run, "run-old");
	str_free(&run);
	/* Whoever leaves that one out gets to the next. */
	assert_int_equal(queue_next(tx, &place, &run), OK);
	assert_string_equal(place.agent_id, "young");
	assert_int_equal(queue_match(tx, "old", 10, &worker, &(struct claim_left){0}), OK);
	str_free(&place.agent_id);
	str_free(&run);
	place = (struct queue_place){0};
	assert_int_equal(queue_next(tx, &place, &run), ERR_EMPTY);
	tx_free(&tx);
}

static void test_idle_claim_yields_to_a_waiting_request(void **state)
{
	add_worker("w", "default", "a/x", "", 0);
	AUTO_STR first = add_request("a", "default", "a/x", "", 1);

	end_turn("a", 2);
	AUTO_STR second = add_request("b", "default", "a/x", "", 3);

	assert_string_equal(second, "w");
	/* The first agent holds nothing any more and waits like others. */
	AUTO_STR again = add_request("a", "default", "a/x", "", 4);

	assert_null(again);
}

static void test_follow_up_goes_to_the_claimed_worker(void **state)
{
	add_worker("w1", "default", "a/x", "", 0);
	AUTO_STR first = add_request("a", "default", "a/x", "", 1);

	end_turn("a", 2);
	add_worker("w2", "default", "a/x", "", 0);
	AUTO_STR again = add_request("a", "default", "a/x", "", 3);

	assert_string_equal(first, "w1");
	assert_string_equal(again, "w1");
}

/* What the hub writes when a connection ends. */
static void lose_worker(const char *id, int64_t lost_at)
{
	struct tx *tx = begin();

	assert_int_equal(tx_exec(tx, "DELETE FROM workers WHERE id = $1", "s", id), OK);
	assert_int_equal(tx_exec(tx, "DELETE FROM worker_slots WHERE worker_id = $1", "s", id), OK);
	assert_int_equal(tx_exec(tx, "UPDATE claims SET lost_at = $2 WHERE worker_id = $1", "si", id, lost_at), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static int64_t number(struct tx *tx, const char *sql)
{
	int64_t n = -1;

	assert_int_equal(tx_query_int(tx, &n, sql, ""), OK);
	return n;
}

static void test_requeue_keeps_the_place(void **state)
{
	struct queue_place place = {0};
	AUTO_STR run = NULL;
	int64_t attempts = 0;

	add_worker("w", "default", "a/x", "", 0);
	free(add_request("a", "default", "a/x", "", 1));
	free(add_request("b", "default", "a/x", "", 2));
	lose_worker("w", 5);
	struct tx *tx = begin();

	assert_int_equal(queue_requeue_lost(tx, "a", "run-a", "w", 6, 7, &attempts), OK);
	assert_int_equal(attempts, 1);
	assert_int_equal(queue_check_queued(tx, "a", "run-a"), OK);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims"), 0);
	assert_int_equal(tx_commit(&tx), OK);
	add_worker("w2", "default", "a/x", "", 0);
	tx = begin();
	assert_int_equal(queue_next(tx, &place, &run), OK);
	assert_string_equal(place.agent_id, "a");
	assert_string_equal(run, "run-a");
	free(place.agent_id);
	tx_free(&tx);
}

/* The five that act on rows found earlier do nothing when any part of what was found is not so any more. */
static void test_a_worker_that_came_back_keeps_its_claims(void **state)
{
	AUTO_STR claim = NULL;
	int64_t attempts = 0;

	add_worker("w", "default", "a/x", "", 0);
	free(add_request("a", "default", "a/x", "", 1));
	struct tx *tx = begin();

	/* Not lost at all. */
	assert_int_equal(queue_requeue_lost(tx, "a", "run-a", "w", 100, 7, &attempts), ERR_EMPTY);
	assert_int_equal(queue_check_lost(tx, "a", "run-a", "w", 100), ERR_EMPTY);
	assert_int_equal(claim_end_lost(tx, "a", "w", 100, 7), ERR_EMPTY);
	assert_int_equal(queue_check_queued(tx, "a", "run-a"), ERR_EMPTY);
	assert_int_equal(claim_end_idle(tx, "a", "w", 100, 7, &claim), ERR_EMPTY);
	tx_free(&tx);
	lose_worker("w", 50);
	tx = begin();
	/* Lost, but later than that; another run; another worker. */
	assert_int_equal(queue_check_lost(tx, "a", "run-a", "w", 50), ERR_EMPTY);
	assert_int_equal(queue_check_lost(tx, "a", "run-b", "w", 51), ERR_EMPTY);
	assert_int_equal(queue_check_lost(tx, "a", "run-a", "v", 51), ERR_EMPTY);
	assert_int_equal(queue_check_lost(tx, "a", "run-a", "w", 51), OK);
	assert_int_equal(queue_requeue_lost(tx, "a", "run-a", "w", 50, 7, &attempts), ERR_EMPTY);
	assert_int_equal(queue_requeue_lost(tx, "a", "run-a", "v", 51, 7, &attempts), ERR_EMPTY);
	/* A claim with a request is not for claim_end_lost. */
	assert_int_equal(claim_end_lost(tx, "a", "w", 51, 7), ERR_EMPTY);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims"), 1);
	/* A turn that has begun is not repeated elsewhere. */
	assert_int_equal(queue_set_serving(tx, "a"), OK);
	assert_int_equal(queue_requeue_lost(tx, "a", "run-a", "w", 51, 7, &attempts), ERR_EMPTY);
	tx_free(&tx);
	assert_int_equal(attempts, 0);
}

static void test_an_idle_claim_ends_only_while_it_is_idle(void **state)
{
	AUTO_STR claim = NULL;
	AUTO_STR held = NULL;
	AUTO_STR worker = NULL;
	int64_t team = 0;

	add_worker("w", "default", "a/x", "", 0);
	free(add_request("a", "default", "a/x", "", 1));
	end_turn("a", 10);
	struct tx *tx = begin();

	assert_int_equal(claim_find(tx, "a", &team, &worker, &held), OK);
	assert_string_equal(worker, "w");
	assert_int_equal(claim_end_idle(tx, "a", "w", 10, 20, &claim), ERR_EMPTY);
	assert_int_equal(claim_end_idle(tx, "a", "v", 11, 20, &claim), ERR_EMPTY);
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_HELD);
	assert_int_equal(number(tx, "SELECT busy FROM workers"), 1);
	assert_int_equal(claim_end_idle(tx, "a", "w", 11, 20, &claim), OK);
	assert_string_equal(claim, held);
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_FREE);
	assert_int_equal(number(tx, "SELECT busy FROM workers"), 0);
	tx_free(&tx);
	free(add_request("a", "default", "a/x", "", 12)); /* the follow-up was faster */
	tx = begin();
	assert_int_equal(claim_end_idle(tx, "a", "w", 100, 20, &claim), ERR_EMPTY);
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_BUSY);
	tx_free(&tx);
}

static int claim_id_of(struct tx *tx, const char *agent, char **ret)
{
	AUTO_STR worker = NULL;
	int64_t team = 0;

	return claim_find(tx, agent, &team, &worker, ret);
}

/* An agent that gets the same worker twice has two claims, and a follow-up on a held one has the same. */
static void test_every_claim_has_an_id_of_its_own(void **state)
{
	AUTO_STR first = NULL;
	AUTO_STR again = NULL;
	AUTO_STR next = NULL;

	add_worker("w", "default", "a/x", "", 0);
	free(add_request("a", "default", "a/x", "", 1));
	struct tx *tx = begin();

	assert_int_equal(claim_id_of(tx, "a", &first), OK);
	assert_true(strncmp(first, "claim-", 6) == 0 && strlen(first) == 6 + 36);
	tx_free(&tx);
	end_turn("a", 10);
	free(add_request("a", "default", "a/x", "", 11));
	tx = begin();
	assert_int_equal(claim_id_of(tx, "a", &again), OK);
	assert_string_equal(again, first);
	assert_int_equal(claim_end(tx, "a", 12), OK);
	assert_int_equal(tx_commit(&tx), OK);
	end_turn("a", 13);
	free(add_request("a", "default", "a/x", "", 14));
	tx = begin();
	assert_int_equal(claim_id_of(tx, "a", &next), OK);
	assert_string_not_equal(next, first);
	tx_free(&tx);
}

/* Rows that only another writer between two of our statements could leave so. */
static void test_a_match_that_comes_too_late_changes_nothing(void **state)
{
	AUTO_STR worker = NULL;

	free(add_request("a", "default", "a/x", "", 1));
	add_worker("w", "default", "a/x", "", 0);
	struct tx *tx = begin();

	/* The worker left, its slot is still seen. */
	assert_int_equal(tx_exec(tx, "UPDATE workers SET draining = 1", ""), OK);
	assert_int_equal(queue_match(tx, "a", 5, &worker, &(struct claim_left){0}), ERR_EMPTY);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims"), 0);
	assert_int_equal(queue_check_queued(tx, "a", "run-a"), OK);
	/* The worker has a claim, its slot says that it is free. */
	assert_int_equal(tx_exec(tx, "UPDATE workers SET draining = 0, busy = 1", ""), OK);
	assert_int_equal(
	    tx_exec(tx, "INSERT INTO claims(agent_id, team_id, worker_id, created_at) VALUES('b', 1, 'w', 0)", ""), OK);
	assert_int_equal(queue_match(tx, "a", 5, &worker, &(struct claim_left){0}), ERR_EMPTY);
	/* It says that it is held, and its agent has gone on. */
	assert_int_equal(tx_exec(tx, "UPDATE worker_slots SET state = 2", ""), OK);
	assert_int_equal(queue_match(tx, "a", 5, &worker, &(struct claim_left){0}), ERR_EMPTY);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims WHERE agent_id = 'b'"), 1);
	assert_int_equal(number(tx, "SELECT busy FROM workers"), 1);
	assert_int_equal(queue_check_queued(tx, "a", "run-a"), OK);
	assert_null(worker);
	tx_free(&tx);
}

/* As the hub's job does; reason "": fit. */
static void set_fitness(const char *worker, const char *reason)
{
	struct tx *tx = begin();

	assert_int_equal(tx_exec(tx,
			     "UPDATE workers SET unfit_code = CASE WHEN $2 = '' THEN '' ELSE 'x' END, unfit_reason = "
			     "$2 WHERE id = $1",
			     "ss", worker, reason),
	    OK);
	assert_int_equal(queue_follow_fitness(tx, 1, worker), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void check_reason(const char *agent, const char *code, const char *text)
{
	struct tx *tx = begin();
	AUTO_JSON wait = NULL;

	assert_int_equal(queue_wait_reason(tx, agent, 10, 120000, &wait), OK);
	assert_string_equal(json_string_value(json_object_get(wait, "code")), code);
	assert_string_equal(json_string_value(json_object_get(wait, "text")), text);
	tx_free(&tx);
}

static void test_wait_reasons(void **state)
{
	free(add_request("a", "gpu", "a/x", "", 1));
	check_reason("a", "no_workers", "no worker is connected to pool gpu");
	add_worker("w1", "gpu", "a/y", "", 0);
	check_reason("a", "no_repo", "none of the 1 workers of pool gpu serves a/x");
	add_worker("w2", "gpu", "a/x", "", 0);
	check_reason("a", "starting", "a matching worker is free, the request is being assigned");
	free(add_request("b", "gpu", "a/x", "", 2));
	free(add_request("c", "gpu", "a/x", "", 3));
	/* b took the worker; a was queued before c. */
	check_reason("a", "all_busy", "all 1 matching workers are busy; position 1");
	check_reason("c", "all_busy", "all 1 matching workers are busy; position 2");
	add_worker("w3", "gpu", "a/x", "", 5);
	set_fitness("w3", "has no space");
	check_reason("c", "all_busy", "of 2 matching workers 1 are busy and 1 unfit; position 2: w3 has no space");
	set_fitness("w2", "cannot reach origin");
	check_reason("c", "all_unfit", "all 2 matching workers are unfit: w2 cannot reach origin; w3 has no space");
}

/* It finishes what it has, which may take hours: it is connected, but not for others. */
static void drain(const char *worker)
{
	struct tx *tx = begin();

	assert_int_equal(tx_exec(tx, "UPDATE workers SET draining = 1 WHERE id = $1", "s", worker), OK);
	assert_int_equal(slots_clear(tx, 1, worker), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void test_a_worker_that_stops_is_not_said_to_serve_another_repository(void **state)
{
	add_worker("w1", "gpu", "a/x", "", 0);
	free(add_request("a", "gpu", "a/x", "", 1));
	drain("w1");
	free(add_request("b", "gpu", "a/x", "", 2));
	check_reason("b", "no_workers", "no worker is connected to pool gpu (1 is stopping)");
	add_worker("w2", "gpu", "a/y", "", 0);
	check_reason("b", "no_repo", "none of the 1 workers of pool gpu serves a/x");
}

/* Its claim stays, its slots are out of matching, and come back as the claim says. */
static void test_an_unfit_worker_gets_nothing_and_keeps_its_claim(void **state)
{
	struct tx *tx;

	add_worker("w", "default", "a/x", "", 0);
	free(add_request("a", "default", "a/x", "", 1));
	set_fitness("w", "has no space");
	end_turn("a", 10);
	assert_null(add_request("b", "default", "a/x", "", 11));
	tx = begin();
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims WHERE agent_id = 'a'"), 1);
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_UNFIT);
	tx_free(&tx);
	set_fitness("w", "");
	tx = begin();
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_HELD);
	assert_int_equal(claim_end(tx, "a", 12), OK);
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_FREE);
	assert_int_equal(tx_commit(&tx), OK);
}

/* The result of a call is one word; what the worker has said of itself since is newer. */
static void test_an_older_word_does_not_make_a_worker_unfit(void **state)
{
	struct tx *tx;

	add_worker("w", "default", "a/x", "", 0);
	tx = begin();
	assert_int_equal(tx_exec(tx, "UPDATE workers SET fitness_n = 3", ""), OK);
	assert_int_equal(queue_mark_unfit(tx, 1, "w", 1, 2, "worker_unfit", "old"), OK);
	assert_int_equal(queue_mark_unfit(tx, 1, "w", 0, 9, "worker_unfit", "of an earlier connection"), OK);
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_FREE);
	assert_int_equal(queue_mark_unfit(tx, 1, "w", 1, 3, "worker_unfit", "new"), OK);
	assert_int_equal(number(tx, "SELECT state FROM worker_slots"), SLOT_UNFIT);
	tx_free(&tx);
}

/* As the run thread does: the attempt is a row. */
static void requeue(const char *agent, const char *worker)
{
	AUTO_STR run = str_printf("run-%s", agent);
	struct tx *tx = begin();

	assert_int_equal(tx_exec(tx,
			     "INSERT INTO run_attempts(run_id, seq, worker_id, worker_name, host, code, message, at)"
			     " SELECT $1, COUNT(*), $2, '', '', '', '', 0 FROM run_attempts",
			     "ss", run, worker),
	    OK);
	assert_int_equal(queue_requeue_unopened(tx, agent, run, worker, 20), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static int match(const char *agent, char **ret_worker)
{
	struct tx *tx = begin();
	int rc = queue_match(tx, agent, 30, ret_worker, &(struct claim_left){0});

	if (rc == OK)
		assert_int_equal(tx_commit(&tx), OK);
	tx_free(&tx);
	return rc;
}

static void test_who_could_not_open_comes_last(void **state)
{
	AUTO_STR worker = NULL;

	add_worker("w1", "default", "a/x", "", 0);
	add_worker("w2", "default", "a/x", "", 1);
	free(add_request("a", "default", "a/x", "", 1));
	free(add_request("b", "default", "a/x", "", 2));
	requeue("a", "w1");
	/* w1 is free, and w2 is busy but might do it. */
	check_reason("a", "all_busy", "all 2 matching workers are busy; position 1");
	assert_int_equal(match("a", &worker), ERR_EMPTY);
	set_fitness("w2", "has no space");
	check_reason("a", "starting", "a matching worker is free, the request is being assigned");
	assert_int_equal(match("a", &worker), OK);
	assert_string_equal(worker, "w1");
}

/* One request, by the view and by itself: the same but for the position. */
static void check_view(struct tx *tx, const struct queue_view *v, const char *agent, unsigned seen[7])
{
	static const char *const codes[] = {
	    "no_workers", "no_repo", "starting", "all_busy", "waking", "all_unfit", "opening"};
	AUTO(queue_group) r = NULL;
	AUTO_JSON alone = NULL;
	AUTO_JSON viewed = NULL;
	int rc = queue_wait_reason(tx, agent, 1000, 120000, &alone);

	assert_int_equal(queue_group_load(tx, agent, &r), OK);
	viewed = queue_view_wait(v, r, 0, 1000, 120000);
	if (rc == ERR_EMPTY) {
		assert_null(viewed);
		assert_null(queue_view_reason(v, r, 1000));
		return;
	}
	assert_int_equal(rc, OK);
	assert_string_equal(json_string_value(json_object_get(alone, "code")), queue_view_reason(v, r, 1000));
	for (size_t i = 0; i < ARRAY_LEN(codes); i++)
		seen[i] += strcmp(codes[i], queue_view_reason(v, r, 1000)) == 0;
	if (json_object_get(alone, "position") != NULL) {
		json_object_del(alone, "position");
		json_object_set(alone, "text", json_object_get(viewed, "text"));
	}
	assert_true(json_equal(alone, viewed));
}

/* Workers and requests of every sort, so that every pair of conditions meets. */
static void test_the_view_of_many_agrees_with_the_reason_of_one(void **state)
{
	static const char *const repos[] = {"", "a/x", "a/y", "a/x a/y"}, *const hosts[] = {"", "h1", "h2"},
				 *const pools[] = {"p0", "p1", "p2", "p3"};
	AUTO(queue_view) v = NULL;
	unsigned seen[7] = {0};
	struct tx *tx;

	for (int i = 0; i < 12; i++) {
		AUTO_STR id = str_printf("w%d", i);

		add_worker(id, pools[i % 3], repos[(i / 3) % 4], hosts[(i / 2) % 3], i);
	}
	for (int i = 0; i < 96; i++) {
		AUTO_STR agent = str_printf("agent-%d", i);

		free(add_request(agent, pools[i % 4], repos[(i / 4) % 3], hosts[(i / 12) % 3], i));
	}
	lose_worker("w3", 500);
	lose_worker("w4", 600);
	for (int i = 5; i < 12; i += 2) {
		AUTO_STR id = str_printf("w%d", i);

		set_fitness(id, "has no space");
	}
	add_worker("stops", "p3", "a/x", "", 1);
	drain("stops");
	set_fitness("w0", "has no space");
	set_fitness("w6", "has no space");
	add_worker("v1", "p2", "a/x", "h2", 1); /* free beside waiting requests: nobody has looked yet */
	assert_int_equal(queue_view_load(st, &v), OK);
	tx = begin();
	assert_int_equal(
	    tx_exec(tx, "UPDATE requests SET opening_at = -20000, opening = 'fetching' WHERE worker_id = 'w1'", ""),
	    OK);
	for (int i = 0; i < 96; i++) {
		AUTO_STR agent = str_printf("agent-%d", i);

		check_view(tx, v, agent, seen);
	}
	for (size_t i = 0; i < ARRAY_LEN(seen); i++)
		assert_true(seen[i] > 0);
	tx_free(&tx);
}

static void set_node(const char *worker, const char *node)
{
	struct tx *tx = begin();

	assert_int_equal(
	    tx_exec(tx, "UPDATE workers SET node_id = $2, node_epoch = 1 WHERE id = $1", "ss", worker, node), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

/* Two nodes share a store: the start of one must not void the connections of the other. */
static void test_a_node_that_starts_forgets_only_its_own_connections(void **state)
{
	struct node mine, other;
	struct tx *tx;

	add_worker("old", "default", "a/x", "", 0); /* from before there were nodes */
	add_worker("mine", "default", "a/y", "", 0);
	add_worker("other", "default", "a/z", "", 0);
	set_node("mine", "n1");
	set_node("other", "n2");
	free(add_request("a", "default", "a/x", "", 1));
	free(add_request("b", "default", "a/y", "", 1));
	free(add_request("c", "default", "a/z", "", 1));
	tx = begin();
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims WHERE node_id = 'n2' AND node_epoch = 1"), 1);
	tx_free(&tx);
	assert_int_equal(node_start(st, "n2", &other), OK);
	assert_int_equal(node_start(st, "n1", &mine), OK);
	assert_int_equal(node_start(st, "n1", &mine), OK);
	assert_int_equal(fleet_recover(st, &mine), OK);
	tx = begin();
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM workers"), 1);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM workers WHERE id = 'other' AND busy = 1"), 1);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM worker_slots"), 1);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims WHERE worker_id = 'other' AND lost_at IS NULL"), 1);
	/* What it took over is its own from now on. */
	assert_int_equal(
	    number(tx, "SELECT COUNT(*) FROM claims WHERE lost_at IS NOT NULL AND node_id = 'n1' AND node_epoch = 2"),
	    2);
	tx_free(&tx);
}

static void test_routes(void **state)
{
	struct why why = {0};
	AUTO_STR match = NULL;

	add_worker("w1", "gpu", "a/x", "", 0);
	add_worker("w2", "mixed", "a/x", "", 0);
	add_worker("w3", "mixed", "", "", 0);
	struct tx *tx = begin();

	assert_int_equal(pool_route(tx, 1, "nope", "a/x", "", false, &match, &why), ERR_NOT_FOUND);
	assert_int_equal(pool_route(tx, 1, "gpu", "a/y", "", false, &match, &why), ERR_CONFLICT);
	assert_non_null(strstr(why.text, "a/x"));
	assert_int_equal(pool_route(tx, 1, "gpu", "a/x", "", false, &match, &why), OK);
	assert_string_equal(match, "a/x");
	str_free(&match);
	assert_int_equal(pool_route(tx, 1, "mixed", "b/z", "", false, &match, &why), OK);
	assert_string_equal(match, "");
	str_free(&match);
	assert_int_equal(pool_route(tx, 1, "default", "q/r", "", false, &match, &why), OK);
	assert_string_equal(match, "q/r");
	tx_free(&tx);
}

#define CROWD 100
static _Atomic int given;

static void *adder(void *arg)
{
	AUTO_STR agent = str_printf("agent-%ld", (long)(intptr_t)arg);
	AUTO_STR worker = add_request(agent, "default", "a/x", "", (int64_t)(intptr_t)arg);

	given += worker != NULL;
	return NULL;
}

static void test_a_crowd_of_requests_and_workers(void **state)
{
	pthread_t t[CROWD];
	int64_t claims = 0, doubles = 0;

	for (int i = 0; i < CROWD / 2; i++) {
		AUTO_STR id = str_printf("w%d", i);

		add_worker(id, "default", "a/x", "", i);
	}
	for (int i = 0; i < CROWD; i++)
		pthread_create(&t[i], NULL, adder, (void *)(intptr_t)i);
	for (int i = 0; i < CROWD; i++)
		pthread_join(t[i], NULL);
	struct tx *tx = begin();

	assert_int_equal(given, CROWD / 2);
	assert_int_equal(tx_query_int(tx, &claims, "SELECT COUNT(*) FROM claims", ""), OK);
	assert_int_equal(claims, CROWD / 2);
	assert_int_equal(
	    tx_query_int(tx, &doubles,
		"SELECT COUNT(*) FROM (SELECT worker_id FROM claims GROUP BY worker_id HAVING COUNT(*) > 1) AS d", ""),
	    OK);
	assert_int_equal(doubles, 0);
	tx_free(&tx);
}

static atomic_uint revoked_notes;

static void count_revoked(void *ctx, const struct note *note)
{
	if (strcmp(note->key_id, "key-late") == 0)
		atomic_fetch_add(&revoked_notes, 1);
}

/* The look for revoked keys may be late: the store did not answer, the process was stopped, the clock was set. It
 * begins where the last one was, not at a fixed time before now. */
static void test_a_late_look_for_revoked_keys_misses_none(void **state)
{
	struct notify *notify = notify_new();
	struct pool *jobs = pool_new("job", 1, 100);
	struct node node = {0};
	struct fleet *f = NULL;
	struct tx *tx = begin();
	int64_t end = clock_mono_ms() + 20000;

	/* A little less than a minute before the start, so a little more before the first look two seconds later. */
	assert_int_equal(tx_exec(tx,
			     "INSERT INTO api_keys(id, hash, suffix, team_id, name, created_at, revoked_at)"
			     " VALUES('key-late', 'h', 's', 1, 'k', 0, $1)",
			     "i", clock_wall_ms() - 59000),
	    OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(node_start(st, "node-1", &node), OK);
	f = fleet_new(&(struct fleet_config){.store = st, .node = &node, .notify = notify, .jobs = jobs});
	notify_listen(notify, NOTE_KEY_REVOKED, count_revoked, NULL);
	fleet_start(f);
	while (atomic_load(&revoked_notes) == 0 && clock_mono_ms() < end)
		poll(NULL, 0, 20);
	pool_stop(jobs);
	fleet_stop(f);
	fleet_free(&f);
	pool_free(&jobs);
	notify_free(&notify);
	assert_true(atomic_load(&revoked_notes) > 0);
}

/* It said that it goes, the connection broke, and it is back before that was written: it goes no more, and its idle
 * claim is as it was. */
static void test_a_word_of_an_earlier_connection_ends_no_claim(void **state)
{
	struct notify *notify = notify_new();
	struct pool *jobs = pool_new("job", 1, 100);
	struct node node = {.id = "n1", .epoch = 1};
	struct worker gone = {.team_id = 1, .id = "w", .link_epoch = 1};
	struct fleet *f = fleet_new(&(struct fleet_config){.store = st, .node = &node, .notify = notify, .jobs = jobs});
	struct tx *tx;

	add_worker("w", "default", "a/x", "", 0);
	free(add_request("a", "default", "a/x", "", 1));
	end_turn("a", 2);
	tx = begin();
	assert_int_equal(tx_exec(tx, "UPDATE workers SET link_epoch = 2", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	store_worker_draining(f, &gone, true);
	pool_stop(jobs);
	tx = begin();
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM claims WHERE idle_since IS NOT NULL"), 1);
	assert_int_equal(number(tx, "SELECT COUNT(*) FROM workers WHERE draining = 0 AND busy = 1"), 1);
	tx_free(&tx);
	fleet_stop(f);
	fleet_free(&f);
	pool_free(&jobs);
	notify_free(&notify);
	/* Its slot yields: one that waits gets it. */
	AUTO_STR got = add_request("b", "default", "a/x", "", 3);

	assert_string_equal(got != NULL ? got : "none", "w");
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(test_vectors, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_busy_worker_is_not_given_twice, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_longest_idle_worker_first, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_oldest_matching_request_first, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_idle_claim_yields_to_a_waiting_request, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_follow_up_goes_to_the_claimed_worker, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_requeue_keeps_the_place, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_worker_that_came_back_keeps_its_claims, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_every_claim_has_an_id_of_its_own, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_an_idle_claim_ends_only_while_it_is_idle, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_match_that_comes_too_late_changes_nothing, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_an_unfit_worker_gets_nothing_and_keeps_its_claim, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_an_older_word_does_not_make_a_worker_unfit, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_who_could_not_open_comes_last, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_wait_reasons, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_a_worker_that_stops_is_not_said_to_serve_another_repository, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_a_node_that_starts_forgets_only_its_own_connections, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_the_view_of_many_agrees_with_the_reason_of_one, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_late_look_for_revoked_keys_misses_none, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_word_of_an_earlier_connection_ends_no_claim, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_routes, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_crowd_of_requests_and_workers, setup, store_teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
