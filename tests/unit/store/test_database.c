/* What is found on disk, space that comes back, transactions that are tried again, and a driver with many writers. */
#include "base/mem.h"
#include "store/driver.h"
#include "store/store_priv.h"
#include "teams.h"
#include <fcntl.h>
#include <ftw.h>
#include <pthread.h>
#include <sched.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <setjmp.h>
#include <cmocka.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], path[96];

static int remove_one(const char *name, const struct stat *st, int flag, struct FTW *ftw)
{
	return remove(name);
}

static int setup(void **state)
{
	snprintf(dir, sizeof dir, "/tmp/bullpen-database-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/bullpen.db", dir);
	return 0;
}

static int teardown(void **state)
{
	nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	return 0;
}

/* Works on the file as any other program could. */
static void with_sqlite(const char *sql)
{
	sqlite3 *conn = NULL;
	char *text = NULL;

	assert_int_equal(sqlite3_open(path, &conn), SQLITE_OK);
	if (sqlite3_exec(conn, sql, NULL, NULL, &text) != SQLITE_OK)
		fail_msg("%s: %s", sql, text);
	sqlite3_close(conn);
}

static struct store *open_good(void)
{
	struct store *st = NULL;
	struct why why = {0};

	if (store_open(dir, &st, &why) != OK)
		fail_msg("%s", why.text);
	return st;
}

static void assert_refused(const char *because)
{
	struct store *st = NULL;
	struct why why = {0};

	assert_int_not_equal(store_open(dir, &st, &why), OK);
	assert_null(st);
	assert_non_null(strstr(why.text, dir));
	if (strstr(why.text, because) == NULL)
		fail_msg("'%s' does not say '%s'", why.text, because);
}

static void make_good(void)
{
	struct store *st = open_good();

	store_close(&st);
}

static void test_nonsense_as_version_is_refused(void **state)
{
	make_good();
	with_sqlite("UPDATE schema_version SET version = 'soon'");
	assert_refused("schema_version has nonsense");
	with_sqlite("UPDATE schema_version SET version = -1");
	assert_refused("schema_version has nonsense");
	with_sqlite("UPDATE schema_version SET version = 1; INSERT INTO schema_version VALUES(2)");
	assert_refused("schema_version has nonsense");
	with_sqlite("DROP TABLE schema_version; CREATE TABLE schema_version(something TEXT)");
	with_sqlite("INSERT INTO schema_version VALUES('x')");
	assert_refused("schema_version has nonsense");
	with_sqlite("DROP TABLE schema_version; CREATE TABLE schema_version(version BIGINT NOT NULL)");
	with_sqlite("INSERT INTO schema_version VALUES(9999)");
	assert_refused("upgrade bullpen");
}

static void test_a_foreign_database_is_refused_and_left_alone(void **state)
{
	int64_t n = 0;
	struct db *db = NULL;

	with_sqlite("CREATE TABLE songs(title TEXT)");
	assert_refused("not schema_version");
	assert_int_equal(driver_sqlite.open(dir, true, &db, NULL), OK);
	assert_int_equal(driver_sqlite.count_tables(db, NULL, &n, NULL), OK);
	assert_int_equal(n, 1);
	driver_sqlite.close(&db);
}

static void test_a_missing_table_is_refused(void **state)
{
	make_good();
	with_sqlite("DROP TABLE claims");
	assert_refused("a table is missing");
}

static void test_a_file_that_is_no_database_is_refused(void **state)
{
	int fd = open(path, O_WRONLY | O_CREAT, 0600);
	char noise[8192];

	memset(noise, 'x', sizeof noise);
	assert_int_equal(write(fd, noise, sizeof noise), sizeof noise);
	close(fd);
	assert_refused("not a database");
}

static void test_a_truncated_file_is_refused(void **state)
{
	struct stat file;

	make_good();
	assert_int_equal(stat(path, &file), 0);
	for (int part = 1; part < 4; part++) {
		assert_int_equal(truncate(path, file.st_size * (4 - part) / 4), 0);
		assert_refused("malformed");
	}
}

static int64_t file_bytes(void)
{
	struct stat file;

	assert_int_equal(stat(path, &file), 0);
	return file.st_size;
}

#define BIG_ROWS 200
#define BIG_BYTES 50000

static int add_big_rows(struct tx *tx, void *arg)
{
	AUTO_STR big = mem_alloc(BIG_BYTES + 1);
	int rc = OK;

	memset(big, 'x', BIG_BYTES);
	big[BIG_BYTES] = '\0';
	for (int64_t i = 100; rc == OK && i < 100 + BIG_ROWS; i++)
		rc = tx_exec(tx, "INSERT INTO teams(id, name, created_at) VALUES($1, $2, 0)", "is", i, big);
	return rc;
}

static int delete_big_rows(struct tx *tx, void *arg)
{
	return tx_exec(tx, "DELETE FROM teams WHERE id >= 100", "");
}

/* Returns the number of steps. */
static int give_all_back(struct store *st)
{
	int64_t left, before = INT64_MAX;
	int steps = 0;

	while ((left = store_give_back(st, 100)) > 0) {
		assert_true(left < before);
		before = left;
		steps++;
	}
	assert_int_equal(left, 0);
	return steps;
}

static void test_space_comes_back_in_steps(void **state)
{
	struct store *st = open_good();

	assert_int_equal(store_write(st, add_big_rows, NULL), OK);
	assert_int_equal(store_write(st, delete_big_rows, NULL), OK);
	assert_true(give_all_back(st) > 10);
	store_close(&st);
	assert_true(file_bytes() < (int64_t)BIG_ROWS * BIG_BYTES / 10);
}

static void test_an_older_file_is_converted_once(void **state)
{
	struct store *st = NULL;

	with_sqlite("PRAGMA auto_vacuum=NONE; CREATE TABLE schema_version(version BIGINT NOT NULL)");
	st = open_good();
	assert_int_equal(store_write(st, add_big_rows, NULL), OK);
	assert_int_equal(store_write(st, delete_big_rows, NULL), OK);
	give_all_back(st);
	store_close(&st);
	assert_true(file_bytes() < (int64_t)BIG_ROWS * BIG_BYTES / 10);
	st = open_good();
	store_close(&st);
}

/* The conversion failed, for instance because the disk is nearly full: then there is nothing to give back, and the
 * sweep must not try for ever. */
static void test_a_file_that_was_not_converted_gives_nothing_back(void **state)
{
	struct driver d = driver_sqlite;
	struct store *st = NULL;

	with_sqlite("PRAGMA auto_vacuum=NONE; CREATE TABLE schema_version(version BIGINT NOT NULL)");
	d.settle = NULL;
	assert_int_equal(store_open_with(&d, dir, &st, NULL), OK);
	assert_int_equal(store_write(st, add_big_rows, NULL), OK);
	assert_int_equal(store_write(st, delete_big_rows, NULL), OK);
	assert_int_equal(store_give_back(st, 100), 0);
	store_close(&st);
}

struct tries {
	int calls;
	int fail_with; /* by the function itself; OK: not at all */
};

static int add_one_team(struct tx *tx, void *arg)
{
	struct tries *t = arg;
	int rc = tx_exec(tx, "INSERT INTO teams(id, name, created_at) VALUES($1, 't', 0)", "i", (int64_t)50);

	t->calls++;
	return rc != OK ? rc : t->fail_with;
}

static void test_a_transaction_that_lost_is_tried_again(void **state)
{
	struct store *st = open_good();
	struct tries t = {0};
	int64_t before = count_teams(st);

	store_fail_commit(st, 1, ERR_AGAIN);
	assert_int_equal(store_write(st, add_one_team, &t), OK);
	assert_int_equal(t.calls, 2);
	assert_int_equal(count_teams(st), before + 1);
	store_close(&st);
}

static void test_other_failures_are_not_tried_again(void **state)
{
	struct store *st = open_good();
	struct tries t = {.fail_with = ERR_NOT_FOUND};
	int64_t before = count_teams(st);

	assert_int_equal(store_write(st, add_one_team, &t), ERR_NOT_FOUND);
	assert_int_equal(t.calls, 1);
	assert_int_equal(count_teams(st), before);
	t = (struct tries){0};
	store_fail_commit(st, 1, ERR_NO_SPACE);
	assert_int_equal(store_write(st, add_one_team, &t), ERR_NO_SPACE);
	assert_int_equal(t.calls, 1);
	store_close(&st);
}

static void test_trying_again_comes_to_an_end(void **state)
{
	struct store *st = open_good();
	struct tries t = {.fail_with = ERR_AGAIN};

	assert_int_equal(store_write(st, add_one_team, &t), ERR_AGAIN);
	assert_true(t.calls > 3 && t.calls < 100);
	store_close(&st);
}

/* The seam: the same store over a driver that says it has many writers. */
#define WRITERS 8
#define EACH 20
static _Atomic int64_t next_id;

static int add_numbered_team(struct tx *tx, void *arg)
{
	return tx_exec(tx, "INSERT INTO teams(id, name, created_at) VALUES($1, 't', 0)", "i", *(int64_t *)arg);
}

static void *write_teams(void *arg)
{
	for (int i = 0; i < EACH; i++) {
		int64_t id = 1000 + atomic_fetch_add(&next_id, 1);
		struct tx *undone = NULL;

		ENSURE(store_write(arg, add_numbered_team, &id) == OK);
		ENSURE(tx_begin(arg, TX_WRITE, &undone) == OK);
		ENSURE(tx_exec(undone, "DELETE FROM teams", "") == OK);
		tx_free(&undone);
	}
	return NULL;
}

static void test_many_writers_need_no_groups(void **state)
{
	struct driver many = driver_sqlite;
	struct store *st = NULL;
	pthread_t t[WRITERS];
	int64_t before;

	many.many_writers = true;
	many.part_begin = many.part_keep = many.part_undo = NULL;
	assert_int_equal(store_open_with(&many, dir, &st, NULL), OK);
	before = count_teams(st);
	for (int i = 0; i < WRITERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, write_teams, st), 0);
	for (int i = 0; i < WRITERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(count_teams(st), before + WRITERS * EACH);
	store_close(&st);
}

/* A member of a group fails over a constraint, and then even taking its part back fails: the whole group is lost. The
 * others have done nothing wrong, so they must hear that trying again makes sense. */
static atomic_bool has_turn, failing;
static int64_t patience;
static int other_rc;

static int part_undo_that_fails(struct db *db)
{
	return atomic_load(&failing) ? ERR_IO : driver_sqlite.part_undo(db);
}

static void *write_one_good(void *arg)
{
	struct tx *tx = NULL;

	ENSURE(tx_begin(arg, TX_WRITE, &tx) == OK);
	ENSURE(tx_exec(tx, "UPDATE teams SET name = 'good' WHERE id = 1", "") == OK);
	atomic_store(&has_turn, true);
	for (int64_t i = 0; i < patience; i++)
		sched_yield(); /* the other is about to wait for its turn */
	other_rc = tx_commit(&tx);
	return NULL;
}

static void test_a_lost_group_is_told_that_trying_again_makes_sense(void **state)
{
	struct driver d = driver_sqlite;
	struct store *st = NULL;

	d.part_undo = part_undo_that_fails;
	assert_int_equal(store_open_with(&d, dir, &st, NULL), OK);
	atomic_store(&failing, true);
	/* If the two did not meet in one group, the next try gives them more time for it. */
	for (patience = 100; other_rc == OK && patience < 100000000; patience *= 2) {
		struct tx *tx = NULL;
		pthread_t t;

		atomic_store(&has_turn, false);
		assert_int_equal(pthread_create(&t, NULL, write_one_good, st), 0);
		while (!atomic_load(&has_turn))
			sched_yield();
		assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
		assert_int_equal(
		    tx_exec(tx, "INSERT INTO teams(id, name, created_at) VALUES(1, 't', 0)", ""), ERR_CONFLICT);
		tx_free(&tx);
		pthread_join(t, NULL);
	}
	assert_true(store_is_unavailable(other_rc));
	atomic_store(&failing, false);
	store_close(&st);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(test_nonsense_as_version_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_foreign_database_is_refused_and_left_alone, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_missing_table_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_file_that_is_no_database_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_truncated_file_is_refused, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_space_comes_back_in_steps, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_an_older_file_is_converted_once, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_file_that_was_not_converted_gives_nothing_back, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_transaction_that_lost_is_tried_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_other_failures_are_not_tried_again, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_trying_again_comes_to_an_end, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_a_lost_group_is_told_that_trying_again_makes_sense, setup, teardown),
	    cmocka_unit_test_setup_teardown(test_many_writers_need_no_groups, setup, teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
