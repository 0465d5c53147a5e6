/* Worker ids and their accounts on a real store. */
#include "server/fleet/ids.h"
#include "base/mem.h"
#include "server/fleet/queue.h"
#include "../store_fixture.h"

static struct tx *begin(struct store *st)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	return tx;
}

static struct id_claim claim_of(const char *worker, const char *account)
{
	return (struct id_claim){.team_id = 1, .worker_id = worker, .account = account, .max_ids = 10, .max_new = 5};
}

static void put_id(struct tx *tx, const char *worker, const char *account, int64_t seen)
{
	assert_int_equal(tx_exec(tx,
			     "INSERT INTO worker_epochs(team_id, worker_id, epoch, seen_at, account, first_seen_at)"
			     " VALUES(1, $1, 1, $2, $3, $2)",
			     "sis", worker, seen, account),
	    OK);
}

static int64_t count(struct tx *tx, const char *sql)
{
	int64_t n = -1;

	assert_int_equal(tx_query_int(tx, &n, sql, ""), OK);
	return n;
}

static void an_id_is_its_accounts_until_it_is_forgotten(void **state)
{
	struct tx *tx = begin(*state);
	struct id_claim mine = claim_of("w", "a"), theirs = claim_of("w", "b");
	struct why why = {""};

	assert_int_equal(worker_id_check(tx, &mine, &why), OK);
	put_id(tx, "w", "a", 1);
	assert_int_equal(worker_id_check(tx, &mine, &why), OK);
	assert_int_equal(worker_id_check(tx, &theirs, &why), ERR_DENIED);
	assert_non_null(strstr(why.text, "worker id w"));
	assert_int_equal(tx_exec(tx, "DELETE FROM worker_epochs", ""), OK);
	assert_int_equal(worker_id_check(tx, &theirs, &why), OK);
	/* From before accounts were written down. */
	put_id(tx, "w", "", 1);
	assert_int_equal(worker_id_check(tx, &theirs, &why), OK);
	tx_free(&tx);
}

static void new_ids_have_a_rate(void **state)
{
	struct tx *tx = begin(*state);
	struct id_claim fresh = claim_of("fresh", "a"), known = claim_of("w3", "a"), other = claim_of("x", "b");
	struct why why = {""};

	for (int i = 0; i < 5; i++) {
		AUTO_STR id = str_printf("w%d", i);

		put_id(tx, id, "a", 100000);
	}
	assert_int_equal(worker_id_make_room(tx, &fresh, 100001, &why), ERR_FULL);
	assert_int_equal(worker_id_make_room(tx, &known, 100001, &why), OK);
	assert_int_equal(worker_id_make_room(tx, &other, 100001, &why), OK);
	assert_int_equal(worker_id_make_room(tx, &fresh, 160001, &why), OK);
	tx_free(&tx);
}

static void the_oldest_ids_make_room_but_not_those_that_are_in_use(void **state)
{
	struct tx *tx = begin(*state);
	struct id_claim fresh = claim_of("fresh", "a");
	struct why why = {""};

	for (int i = 0; i < 10; i++) {
		AUTO_STR id = str_printf("w%d", i);

		put_id(tx, id, "a", i);
		if (i != 3)
			assert_int_equal(
			    tx_exec(tx,
				"INSERT INTO claims(agent_id, team_id, worker_id, created_at) VALUES($1, 1, $1, 0)",
				"s", id),
			    OK);
	}
	put_id(tx, "of-another", "b", 0);
	assert_int_equal(worker_id_make_room(tx, &fresh, 1000000, &why), OK);
	assert_int_equal(count(tx, "SELECT COUNT(*) FROM worker_epochs WHERE worker_id = 'w3'"), 0);
	assert_int_equal(count(tx, "SELECT COUNT(*) FROM worker_epochs"), 10);
	put_id(tx, "w3", "a", 3);
	assert_int_equal(
	    tx_exec(tx, "INSERT INTO claims(agent_id, team_id, worker_id, created_at) VALUES('w3', 1, 'w3', 0)", ""),
	    OK);
	assert_int_equal(worker_id_make_room(tx, &fresh, 1000000, &why), ERR_FULL);
	assert_int_equal(count(tx, "SELECT COUNT(*) FROM worker_epochs"), 11);
	tx_free(&tx);
}

static void pools_of_an_account_are_bounded(void **state)
{
	struct tx *tx = begin(*state);
	struct id_claim c = claim_of("w", "a");
	struct why why = {""};

	for (int i = 0; i < 10; i++) {
		AUTO_STR name = str_printf("p%d", i);

		assert_int_equal(pool_make_room(tx, &c, name, "", "", &why), OK);
		assert_int_equal(tx_exec(tx,
				     "INSERT INTO pools(team_id, name, repo, repo_host, repo_name, first_seen_at, "
				     "last_seen_at, account) VALUES(1, $1, '', '', '', 0, 0, 'a')",
				     "s", name),
		    OK);
		assert_int_equal(tx_exec(tx,
				     "INSERT INTO worker_slots(team_id, pool, repo, repo_host, worker_id, state, "
				     "idle_since) VALUES(1, $1, '', '', $1, 1, 0)",
				     "s", name),
		    OK);
	}
	assert_int_equal(pool_make_room(tx, &c, "one-more", "", "", &why), ERR_FULL);
	assert_int_equal(pool_make_room(tx, &c, "p4", "", "", &why), OK);
	assert_int_equal(tx_exec(tx, "DELETE FROM worker_slots WHERE pool = 'p7'", ""), OK);
	assert_int_equal(pool_make_room(tx, &c, "one-more", "", "", &why), OK);
	assert_int_equal(count(tx, "SELECT COUNT(*) FROM pools WHERE name = 'p7'"), 0);
	tx_free(&tx);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(an_id_is_its_accounts_until_it_is_forgotten, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(new_ids_have_a_rate, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		the_oldest_ids_make_room_but_not_those_that_are_in_use, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(pools_of_an_account_are_bounded, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
