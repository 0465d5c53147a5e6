/* Transactions: all or nothing, group commit under threads, failing commits, reopening. */
#include "../store_fixture.h"
#include "base/clock.h"
#include "base/mem.h"
#include "teams.h"
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <stdatomic.h>
#include <string.h>

static atomic_bool enough;

static int add_team(struct store *st, int64_t id)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc != OK)
		return rc;
	rc = tx_exec(tx, "INSERT INTO teams(id, name, created_at) VALUES($1, $2, 0)", "is", id, "t");
	return rc != OK ? rc : tx_commit(&tx);
}

static int64_t log_bytes(void)
{
	AUTO_STR path = str_printf("%s/bullpen.db-wal", store_dir);
	struct stat st;

	return stat(path, &st) == 0 ? st.st_size : 0;
}

static void *read_all_the_time(void *arg)
{
	struct store *st = arg;

	while (!atomic_load(&enough)) {
		AUTO(tx) tx = NULL;
		int64_t n = 0;

		ENSURE(tx_begin(st, TX_READ, &tx) == OK);
		ENSURE(tx_query_int(tx, &n, "SELECT COUNT(*) FROM teams", "") == OK);
	}
	return NULL;
}

/* Forty times what the log may hold before it is moved, while two threads always read. */
static void test_the_log_stays_short(void **state)
{
	struct store *st = *state;
	AUTO_STR big = mem_alloc(100001);
	pthread_t readers[2];
	int64_t largest = 0;

	if (getenv("STORE_URL") != NULL)
		skip(); /* it looks at SQLite's log */
	memset(big, 'x', 100000);
	big[100000] = '\0';
	atomic_store(&enough, false);
	for (size_t i = 0; i < ARRAY_LEN(readers); i++)
		assert_int_equal(pthread_create(&readers[i], NULL, read_all_the_time, st), 0);
	for (int64_t i = 10; i < 1610; i++) {
		AUTO(tx) tx = NULL;

		assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
		assert_int_equal(
		    tx_exec(tx, "INSERT INTO teams(id, name, created_at) VALUES($1, $2, 0)", "is", i, big), OK);
		assert_int_equal(tx_commit(&tx), OK);
		largest = MAX(largest, log_bytes());
	}
	atomic_store(&enough, true);
	for (size_t i = 0; i < ARRAY_LEN(readers); i++)
		pthread_join(readers[i], NULL);
	assert_true(largest > 0);
	assert_true(largest < 100 * 1024 * 1024);
}

static void test_commit_and_rollback(void **state)
{
	struct store *st = *state;
	struct tx *tx = NULL;

	assert_int_equal(add_team(st, 7), OK);
	assert_int_equal(count_teams(st), 2);
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx, "DELETE FROM teams", ""), OK);
	tx_free(&tx);
	assert_int_equal(count_teams(st), 2);
}

static void test_conflict_spoils_only_its_transaction(void **state)
{
	struct store *st = *state;

	assert_int_equal(add_team(st, 7), OK);
	assert_int_equal(add_team(st, 7), ERR_CONFLICT);
	assert_int_equal(add_team(st, 8), OK);
	assert_int_equal(count_teams(st), 3);
}

static void test_reopen_keeps_what_was_committed(void **state)
{
	struct store *st = *state;

	assert_int_equal(add_team(st, 9), OK);
	store_close(&st);
	assert_int_equal(store_open(store_dir, &st, NULL), OK);
	*state = st;
	assert_int_equal(count_teams(st), 2);
}

static void test_parameters_and_columns(void **state)
{
	struct store *st = *state;
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int64_t changed = 0;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(
	    tx_exec(tx, "INSERT INTO users(id, team_id, name, email, created_at) VALUES($1, $2, $3, $4, $2)", "iiss",
		(int64_t)1, (int64_t)1, "it's; --", NULL),
	    OK);
	assert_int_equal(
	    tx_change(tx, &changed, "UPDATE users SET team_id = $2 WHERE id = $1", "ii", (int64_t)1, (int64_t)5), OK);
	assert_int_equal(changed, 1);
	assert_int_equal(tx_query(tx, &q, "SELECT name, email, team_id FROM users", ""), OK);
	assert_int_equal(query_next(q), OK);
	assert_string_equal(query_text(q, 0), "it's; --");
	assert_true(query_is_null(q, 1));
	assert_string_equal(query_str(q, 1), "");
	assert_int_equal(query_int(q, 2), 5);
	assert_int_equal(query_next(q), ERR_EMPTY);
}

#define WRITERS 16
#define EACH 40
static _Atomic int64_t next_id;
static _Atomic int acknowledged;

static void *writer(void *arg)
{
	for (int i = 0; i < EACH; i++) {
		int64_t id = 1000 + atomic_fetch_add(&next_id, 1);

		if (id % 7 == 0) {
			struct tx *tx = NULL;

			if (tx_begin(arg, TX_WRITE, &tx) != OK)
				continue;
			IGNORE(tx_exec(tx, "DELETE FROM teams", ""));
			tx_free(&tx);
		} else if (add_team(arg, id) == OK) {
			atomic_fetch_add(&acknowledged, 1);
		}
	}
	return NULL;
}

static void run_writers(struct store *st)
{
	pthread_t t[WRITERS];

	atomic_store(&acknowledged, 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_create(&t[i], NULL, writer, st);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
}

static void test_threads_share_commits(void **state)
{
	struct store *st = *state;
	int64_t before = count_teams(st);

	run_writers(st);
	assert_true(atomic_load(&acknowledged) > WRITERS * EACH / 2);
	assert_int_equal(count_teams(st), before + atomic_load(&acknowledged));
}

static void test_failed_commits_acknowledge_nothing(void **state)
{
	struct store *st = *state;

	for (int64_t n = 1; n <= 20; n++) {
		int64_t before = count_teams(st);

		store_fail_commit(st, n, ERR_NO_SPACE);
		run_writers(st);
		store_fail_commit(st, 0, OK);
		assert_int_equal(count_teams(st), before + atomic_load(&acknowledged));
	}
}

static void test_errors_are_told_apart(void **state)
{
	struct store *other = NULL;
	struct why why = {0};

	assert_int_not_equal(store_open("/nonexistent/folder", &other, &why), OK);
	assert_non_null(strstr(why.text, "/nonexistent/folder"));
	store_fail_commit(*state, 1, ERR_NO_SPACE);
	assert_int_equal(add_team(*state, 55), ERR_NO_SPACE);
	assert_true(store_is_unavailable(ERR_NO_SPACE));
	assert_int_equal(add_team(*state, 55), OK);
}

/* It would wait for itself for ever: it ends with a message instead. */
static void test_a_nested_write_is_a_mistake_that_shows(void **state)
{
	pid_t child = fork();
	int status = 0;

	if (child == 0) {
		struct tx *outer = NULL, *inner = NULL;

		alarm(10);
		IGNORE(freopen("/dev/null", "w", stderr));
		if (tx_begin(*state, TX_WRITE, &outer) != OK || !tx_write_is_open())
			_exit(1);
		_exit(tx_begin(*state, TX_WRITE, &inner) == OK ? 2 : 3);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFSIGNALED(status));
	assert_int_equal(WTERMSIG(status), SIGABRT);
	assert_false(tx_write_is_open());
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(test_the_log_stays_short, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_commit_and_rollback, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_conflict_spoils_only_its_transaction, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_reopen_keeps_what_was_committed, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_parameters_and_columns, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_threads_share_commits, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_failed_commits_acknowledge_nothing, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_errors_are_told_apart, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_nested_write_is_a_mistake_that_shows, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
