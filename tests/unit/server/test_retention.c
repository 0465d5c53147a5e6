/* Forgetting: what goes when, in small steps, and what stays. */
#include "../store_fixture.h"
#include "base/clock.h"
#include "base/mem.h"
#include "server/audit/audit.h"
#include "server/runs/retention.h"
#include "store/store_priv.h"
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>

#define DAY ((int64_t)24 * 60 * 60 * 1000)
#define NOW (400 * DAY)

static void exec(struct tx *tx, const char *sql, const char *a, const char *b, int64_t n, const char *text)
{
	assert_int_equal(tx_exec(tx, sql, "ssis", a, b, n, text), OK);
}

#define EVENTS_A_RUN 40

/* An agent whose last run ended then, with everything that runs leave behind. */
static void add_agent(struct store *st, const char *name, int64_t ended_ms, const char *big)
{
	AUTO(tx) tx = NULL;
	AUTO_STR agent = str_printf("bc-%s", name);
	AUTO_STR run = str_printf("run-%s", name);
	AUTO_STR nested = str_printf("loop-%s", name);
	AUTO_STR call = str_printf("call-%s", name);
	AUTO_STR inner = str_printf("inner-%s", name);

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	exec(tx,
	    "INSERT INTO agents(id, team_id, owner, name, status, env_type, env_name, pool, repos, repo_url, repo, "
	    "repo_host,"
	    " match_repo, starting_ref, work_on_current_branch, skip_reviewer_request, open_as_app, model, mode, "
	    "branch,"
	    " latest_run_id, run_count, created_at, updated_at) VALUES($1, 1, 'user:1', 'n', 'IDLE', 'pool', 'p', 'p', "
	    "'[]',"
	    " '', '', '', '', '', 0, 0, 0, $4, 'agent', '', $2, 1, $3, $3)",
	    agent, run, ended_ms, "{}");
	exec(tx,
	    "INSERT INTO runs(id, agent_id, number, status, request_id, created_at, updated_at, ended_at, result,"
	    " input_tokens, output_tokens, cache_read_tokens, cache_write_tokens, owner_epoch, last_seq, last_ms, "
	    "last_n)"
	    " VALUES($2, $1, 1, 'FINISHED', 'x', $3, $3, $3, $4, 0, 0, 0, 0, 1, 40, $3, 0)",
	    agent, run, ended_ms, "the answer");
	exec(tx,
	    "INSERT INTO loops(id, run_id, conversation_id, seq, model, mode, step, step_seq, created_at)"
	    " VALUES($2, $2, $1, 1, $4, 'agent', 1, 1, $3)",
	    agent, run, ended_ms, "{}");
	exec(tx,
	    "INSERT INTO loops(id, run_id, conversation_id, seq, parent_call_id, model, mode, step, step_seq, "
	    "created_at)"
	    " VALUES($1, $2, $1, 1, $4, '{}', 'agent', 1, 1, $3)",
	    nested, run, ended_ms, call);
	for (int loop = 0; loop < 2; loop++) {
		const char *id = loop == 0 ? run : nested;

		exec(tx, "INSERT INTO loop_texts(loop_id, prompt, system) VALUES($1, $4, $2 || $3)", id, "s", 1, big);
		exec(tx,
		    "INSERT INTO steps(loop_id, step, text, calls, created_at) VALUES($1, 0, $4, 1, $3 + 0 * "
		    "LENGTH($2))",
		    id, "", ended_ms, big);
		exec(tx,
		    "INSERT INTO tool_calls(id, loop_id, step, idx, kind, name, args, state, outcome, result, "
		    "model_text,"
		    " detail, created_at, ended_at) VALUES($2, $1, 0, 0, 'tool', 't', '{}', 'done', 'success', $4, $4, "
		    "'{}',"
		    " $3, $3)",
		    id, loop == 0 ? call : inner, ended_ms, big);
		exec(tx,
		    "INSERT INTO compactions(conversation_id, seq, loop_id, step, summarised, summary, shortened, "
		    "result_max,"
		    " created_at) VALUES($2, 1, $1, 0, 0, $4, 0, 0, $3)",
		    id, loop == 0 ? agent : nested, ended_ms, big);
	}
	exec(tx,
	    "INSERT INTO prompt_images(loop_id, idx, mime_type, data) VALUES($2, 0 * LENGTH($1) + 0 * $3, 'image/png', "
	    "$4)",
	    agent, run, 0, big);
	exec(tx, "INSERT INTO run_sessions(run_id, session_info) VALUES($2, $4 || $1 || $3)", agent, run, 1, big);
	exec(tx,
	    "INSERT INTO agent_inputs(agent_id, run_id, kind, value) VALUES($1, CASE WHEN $3 < 0 THEN $2 ELSE '' END, "
	    "'subagents', "
	    "$4)",
	    agent, run, 0, "[]");
	for (int64_t i = 1; i <= EVENTS_A_RUN; i++)
		exec(tx,
		    "INSERT INTO events(run_id, seq, id_ms, id_n, kind, data) VALUES($2, $3, 1, $3, 'assistant', $4 || "
		    "$1)",
		    "", run, i, big);
	assert_int_equal(tx_commit(&tx), OK);
}

static int64_t count(struct store *st, const char *sql)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int64_t n = -1;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query(tx, &q, sql, ""), OK);
	assert_int_equal(query_next(q), OK);
	n = query_int(q, 0);
	return n;
}

static const struct retention keep = {.events_ms = DAY,
    .images_ms = 30 * DAY,
    .conversations_ms = 90 * DAY,
    .agents_ms = 365 * DAY,
    .traces_ms = 365 * DAY};

static void forget(struct store *st, const struct retention *r)
{
	bool free_space = true;

	assert_int_equal(retention_step(st, r, NOW, 60000, &free_space), OK);
	assert_false(free_space);
}

static void add_artifact(struct store *st, const char *agent, const char *generation)
{
	AUTO(tx) tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx,
			     "INSERT INTO artifacts(generation, agent_id, path, state, size_bytes, sha256, updated_at)"
			     " VALUES($1, $2, 'artifacts/a', 'READY', 1, '', 1)",
			     "ss", generation, agent),
	    OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void test_each_thing_goes_in_its_time(void **state)
{
	struct store *st = *state;

	add_agent(st, "new", NOW - DAY / 2, "big");
	add_agent(st, "days", NOW - 3 * DAY, "big");
	add_agent(st, "weeks", NOW - 40 * DAY, "big");
	add_agent(st, "months", NOW - 100 * DAY, "big");
	add_agent(st, "years", NOW - 380 * DAY, "big");
	add_artifact(st, "bc-years", "g-years");
	add_artifact(st, "bc-months", "g-months");
	forget(st, &keep);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM artifacts WHERE generation = 'g-months'"), 1);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM artifacts"), 1);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM artifact_removals WHERE generation = 'g-years'"), 1);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM events"), EVENTS_A_RUN);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM events WHERE run_id = 'run-new'"), EVENTS_A_RUN);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM tool_calls WHERE result IS NOT NULL"), 2);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM prompt_images WHERE data <> ''"), 2);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM prompt_images"), 3);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM loops"), 6);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM loop_texts"), 6);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM steps"), 6);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM tool_calls"), 6);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM compactions"), 6);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM run_sessions"), 3);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agents"), 4);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM runs WHERE result = 'the answer'"), 4);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agents WHERE id = 'bc-years'"), 0);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agent_inputs"), 4);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agent_inputs WHERE agent_id = 'bc-years'"), 0);
}

static void test_never_means_never(void **state)
{
	struct store *st = *state;

	add_agent(st, "years", NOW - 380 * DAY, "big");
	forget(st, &(struct retention){.events_ms = DAY});
	assert_int_equal(count(st, "SELECT COUNT(*) FROM events"), 0);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM prompt_images WHERE data <> ''"), 1);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM steps"), 2);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agents"), 1);
}

static void test_an_active_agent_keeps_everything(void **state)
{
	struct store *st = *state;
	AUTO(tx) tx = NULL;

	add_agent(st, "busy", NOW - 380 * DAY, "big");
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx, "UPDATE agents SET status = 'ACTIVE'", ""), OK);
	assert_int_equal(tx_exec(tx, "UPDATE runs SET status = 'RUNNING', ended_at = NULL", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	forget(st, &keep);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM events"), EVENTS_A_RUN);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM steps"), 2);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM loops WHERE conversation_id = 'bc-busy'"), 1);
}

static bool asks_again; /* an image is about to be deleted for the first time */

/* A follow-up with an image, from another process for all the sweep knows. */
static void *ask_again(void *arg)
{
	AUTO(tx) tx = NULL;
	struct store *other = NULL;

	ENSURE(store_open(store_dir, &other, NULL) == OK);
	ENSURE(tx_begin(other, TX_WRITE, &tx) == OK);
	ENSURE(tx_exec(tx, "UPDATE agents SET status = 'ACTIVE', kept = 2, updated_at = $1", "i", (int64_t)NOW) == OK);
	ENSURE(tx_exec(tx,
		   "INSERT INTO loops(id, run_id, conversation_id, seq, model, mode, step, step_seq, created_at)"
		   " VALUES('run-next', 'run-next', 'bc-weeks', 2, '{}', 'agent', 0, 0, $1)",
		   "i", (int64_t)NOW) == OK);
	ENSURE(tx_exec(tx, "INSERT INTO prompt_images(loop_id, idx, mime_type, data) VALUES('run-next', 0, 'm', 'new')",
		   "") == OK);
	ENSURE(tx_commit(&tx) == OK);
	store_close(&other);
	return NULL;
}

static int begin_after_follow_up(struct db *db, bool write)
{
	pthread_t t;

	if (write && asks_again) {
		asks_again = false;
		ENSURE(pthread_create(&t, NULL, ask_again, NULL) == 0);
		pthread_join(t, NULL);
	}
	return driver_sqlite.begin(db, write);
}

/* Between the look for old images and their deletion. */
static void test_an_agent_that_is_asked_again_keeps_its_images(void **state)
{
	struct store *st = *state;
	static struct driver d;

	if (getenv("STORE_URL") != NULL)
		skip(); /* it puts itself before SQLite */
	d = driver_sqlite;
	add_agent(st, "weeks", NOW - 40 * DAY, "big");
	forget(st, &(struct retention){.events_ms = DAY});
	store_close(&st);
	d.begin = begin_after_follow_up;
	assert_int_equal(store_open_with(&d, store_dir, &st, NULL), OK);
	*state = st;
	asks_again = true;
	forget(st, &keep);
	assert_false(asks_again);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM prompt_images WHERE data <> ''"), 2);
	store_close(&st);
	assert_int_equal(store_open(store_dir, &st, NULL), OK);
	*state = st;
}

/* A worker that is never released (idle_release 0) holds a claim for longer than anything is kept. Its agent stays, and
 * does not keep the sweep from the others. */
static void test_an_agent_that_holds_a_worker_stays_whole(void **state)
{
	struct store *st = *state;
	AUTO(tx) tx = NULL;

	for (int i = 0; i < 60; i++) {
		AUTO_STR name = str_printf("%d", i);

		add_agent(st, name, NOW - 380 * DAY, "big");
	}
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx,
			     "INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, idle_since)"
			     " SELECT 'claim-' || id, id, 1, 'w-' || id, 1, 1 FROM agents WHERE id <> 'bc-59'",
			     ""),
	    OK);
	assert_int_equal(tx_commit(&tx), OK);
	forget(st, &keep);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agents"), 59);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM runs"), 59);
}

/* Its worker hibernates, and nobody has asked for it for as long as agents are kept. */
static void test_a_claim_of_a_worker_that_is_away_does_not_keep_an_agent_for_ever(void **state)
{
	struct store *st = *state;
	AUTO(tx) tx = NULL;

	add_agent(st, "old", NOW - 380 * DAY, "x");
	add_agent(st, "young", NOW - DAY, "x");
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(
	    tx_exec(tx,
		"INSERT INTO claims(id, agent_id, team_id, worker_id, created_at, idle_since, lost_at)"
		" SELECT 'claim-' || id, id, 1, 'w-' || id, updated_at, updated_at, updated_at FROM agents",
		""),
	    OK);
	assert_int_equal(tx_commit(&tx), OK);
	forget(st, &keep);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agents"), 1);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM claims WHERE worker_id = 'w-bc-young'"), 1);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM claims"), 1);
}

/* A run that is larger than one step, and a budget that ends in the middle: the rest is for the next time. */
static void test_a_large_run_goes_in_steps(void **state)
{
	struct store *st = *state;
	AUTO(tx) tx = NULL;
	bool free_space = true;
	int rounds = 0;

	add_agent(st, "large", NOW - 3 * DAY, "big");
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	for (int64_t i = EVENTS_A_RUN + 1; i <= 20000; i++)
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO events(run_id, seq, id_ms, id_n, kind, data) VALUES('run-large', $1, 1,"
			" $1, 'assistant', '{}')",
			"i", i),
		    OK);
	assert_int_equal(tx_exec(tx, "UPDATE runs SET last_seq = 20000", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	for (; count(st, "SELECT COUNT(*) FROM runs WHERE last_seq > 0") == 1 && rounds < 100000; rounds++) {
		int64_t before = count(st, "SELECT COUNT(*) FROM events");

		assert_int_equal(retention_step(st, &keep, NOW, 0, &free_space), OK);
		assert_int_equal(count(st, "SELECT COUNT(*) FROM events"), before); /* nothing without a budget */
		assert_int_equal(retention_step(st, &keep, NOW, 2, &free_space), OK);
	}
	assert_int_equal(count(st, "SELECT COUNT(*) FROM events"), 0);
	assert_true(rounds > 0);
}

/* Records have the real time, so it is the limit that moves here. */
static void test_the_audit_log_goes_by_its_age(void **state)
{
	const struct audit_by by = {.team_id = 1, .actor = "user:1"};
	struct retention r = {.events_ms = DAY, .audit_ms = 400 * DAY};
	struct audit_verdict v;
	AUTO(tx) tx = NULL;
	bool free_space = true;

	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	for (int i = 0; i < 1200; i++)
		assert_int_equal(audit_write(tx, &by, "login", json_object()), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(retention_step(*state, &r, clock_wall_ms() + 399 * DAY, 60000, &free_space), OK);
	assert_int_equal(count(*state, "SELECT COUNT(*) FROM audit_log"), 1200);
	assert_int_equal(retention_step(*state, &r, clock_wall_ms() + 401 * DAY, 60000, &free_space), OK);
	assert_int_equal(count(*state, "SELECT COUNT(*) FROM audit_log"), 0);
	assert_int_equal(tx_begin(*state, TX_READ, &tx), OK);
	assert_int_equal(audit_check(tx, 1, &v), OK);
	assert_true(v.whole);
	assert_int_equal(v.seq, 1200);
}

static int64_t store_bytes(void)
{
	AUTO_STR path = str_printf("%s/bullpen.db", store_dir);
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : -1;
}

/* A year of runs, deleted, leaves a small store. */
static void test_space_comes_back(void **state)
{
	struct store *st = *state;
	char big[4001];
	int64_t full;

	if (getenv("STORE_URL") != NULL)
		skip(); /* it measures a file */
	memset(big, 'x', sizeof big - 1);
	big[sizeof big - 1] = '\0';
	for (int day = 1; day <= 360; day++) {
		AUTO_STR name = str_printf("%d", day);

		add_agent(st, name, NOW - 366 * DAY - day * DAY / 20, big);
	}
	store_close(&st);
	full = store_bytes();
	assert_int_equal(store_open(store_dir, &st, NULL), OK);
	*state = st;
	assert_true(full > 50 * 1024 * 1024);
	for (int i = 0; i < 1000 && (i < 10 || store_bytes() > full / 50); i++)
		forget(st, &keep);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM agents"), 0);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM runs"), 0);
	assert_int_equal(count(st, "SELECT COUNT(*) FROM loops"), 0);
	store_close(&st);
	assert_true(store_bytes() < full / 50);
	assert_int_equal(store_open(store_dir, &st, NULL), OK);
	*state = st;
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(test_each_thing_goes_in_its_time, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_never_means_never, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_an_active_agent_keeps_everything, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_an_agent_that_is_asked_again_keeps_its_images, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_an_agent_that_holds_a_worker_stays_whole, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_a_claim_of_a_worker_that_is_away_does_not_keep_an_agent_for_ever, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_large_run_goes_in_steps, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_the_audit_log_goes_by_its_age, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_space_comes_back, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
