/* The audit log: the chain, what breaks it, and that it can be forgotten from its beginning only. */
#include "../store_fixture.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "server/audit/audit.h"
#include <string.h>

static const struct audit_by ann = {.team_id = 1, .actor = "user:1", .name = "ann@example.test", .ip = "::1"};
static const struct audit_by other_team = {.team_id = 2, .actor = "user:9"};

static void write_one(struct store *st, const struct audit_by *by, const char *type, const char *what)
{
	AUTO(tx) tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(audit_write(tx, by, type, json_pack("{s:s}", "what", what)), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void sql(struct store *st, const char *text)
{
	AUTO(tx) tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx, text, ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static struct audit_verdict check(struct store *st, int64_t team_id)
{
	struct audit_verdict v;
	AUTO(tx) tx = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(audit_check(tx, team_id, &v), OK);
	return v;
}

static void is_broken_at(struct store *st, int64_t seq, const char *why)
{
	struct audit_verdict v = check(st, 1);

	assert_false(v.whole);
	assert_int_equal(v.seq, seq);
	assert_non_null(strstr(v.why.text, why));
}

static void a_chain_for_each_team(void **state)
{
	struct audit_verdict v = check(*state, 1);

	assert_true(v.whole);
	assert_int_equal(v.records, 0);
	write_one(*state, &ann, "login", "a");
	write_one(*state, &other_team, "login", "b");
	write_one(*state, &ann, "logout", "c");
	v = check(*state, 1);
	assert_true(v.whole);
	assert_int_equal(v.seq, 2);
	assert_int_equal(check(*state, 2).records, 1);
}

static void what_is_rolled_back_was_never_there(void **state)
{
	struct tx *tx = NULL;

	write_one(*state, &ann, "login", "a");
	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(audit_write(tx, &ann, "logout", json_object()), OK);
	tx_free(&tx);
	write_one(*state, &ann, "logout", "b");
	assert_true(check(*state, 1).whole);
	assert_int_equal(check(*state, 1).seq, 2);
}

/* Each column is in the hash, and text that moves from one to the next is other text. */
static void whatever_is_changed_shows(void **state)
{
	static const char *const changes[] = {"id = 'x'", "at = at + 1", "type = 'logout'", "actor = 'user:2'",
	    "actor_name = NULL", "actor_name = 'ann@example.test::1', ip = ''", "ip = '::2'", "data = '{}'",
	    "hash = prev_hash", "team_id = 3"};

	for (size_t i = 0; i < ARRAY_LEN(changes); i++) {
		AUTO_STR text = str_printf("UPDATE audit_log SET %s WHERE team_id = 1 AND seq = 2", changes[i]);
		struct tx *tx = NULL;
		struct audit_verdict v;

		if (i == 0)
			for (int k = 0; k < 3; k++)
				write_one(*state, &ann, "login", "a");
		assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
		assert_int_equal(tx_exec(tx, text, ""), OK);
		assert_int_equal(audit_check(tx, 1, &v), OK);
		assert_false(v.whole);
		assert_int_equal(v.seq, 2);
		tx_free(&tx);
	}
	assert_true(check(*state, 1).whole);
}

static void what_is_cut_off_or_added_shows(void **state)
{
	for (int k = 0; k < 3; k++)
		write_one(*state, &ann, "login", "a");
	sql(*state, "DELETE FROM audit_log WHERE team_id = 1 AND seq = 3");
	is_broken_at(*state, 3, "missing");
	sql(*state, "DELETE FROM audit_log WHERE team_id = 1 AND seq = 1");
	is_broken_at(*state, 1, "missing");
	sql(*state, "DELETE FROM audit_log WHERE team_id = 1");
	is_broken_at(*state, 1, "missing");
	/* A log that is copied in from elsewhere, with hashes that fit. */
	write_one(*state, &other_team, "login", "a");
	sql(*state, "UPDATE audit_log SET team_id = 1 WHERE team_id = 2");
	is_broken_at(*state, 1, "changed");
}

static int64_t forget(struct store *st, int64_t before_ms, int64_t max)
{
	AUTO(tx) tx = NULL;
	int64_t n = -1;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(audit_forget(tx, before_ms, max, &n), OK);
	assert_int_equal(tx_commit(&tx), OK);
	return n;
}

static void the_oldest_are_forgotten_and_the_rest_is_whole(void **state)
{
	int64_t later = clock_wall_ms() + 1000000;

	for (int k = 0; k < 5; k++)
		write_one(*state, &ann, "login", "a");
	write_one(*state, &other_team, "login", "b");
	assert_int_equal(forget(*state, 1, 100), 0);
	assert_int_equal(forget(*state, later, 2), 3); /* two of a team at a time */
	assert_true(check(*state, 1).whole);
	assert_int_equal(check(*state, 1).records, 3);
	assert_true(check(*state, 2).whole);
	sql(*state, "DELETE FROM audit_log WHERE team_id = 1 AND seq = 3");
	is_broken_at(*state, 3, "missing");
	assert_int_equal(forget(*state, later, 100), 2);
	assert_true(check(*state, 1).whole);
	/* Also when nothing is left it goes on where it was. */
	write_one(*state, &ann, "login", "a");
	assert_true(check(*state, 1).whole);
	assert_int_equal(check(*state, 1).seq, 6);
}

static void what_is_too_large_is_its_hash(void **state)
{
	AUTO_STR big = mem_alloc(100001);
	AUTO_JSON rows = NULL;
	AUTO(tx) tx = NULL;
	int64_t next = 0;

	memset(big, 'x', 100000);
	big[100000] = '\0';
	write_one(*state, &ann, "self_hosted_policy", big);
	assert_int_equal(tx_begin(*state, TX_READ, &tx), OK);
	assert_int_equal(
	    audit_page(tx,
		&(struct audit_query){.team_id = 1, .until_ms = INT64_MAX, .before_seq = INT64_MAX, .limit = 10}, &rows,
		&next),
	    OK);
	assert_int_equal(json_array_size(rows), 1);
	assert_int_equal(next, 0);
	json_t *data = json_object_get(json_array_get(rows, 0), "data");

	assert_true(json_integer_value(json_object_get(data, "bytes")) > 100000);
	assert_int_equal(strlen(json_string_value(json_object_get(data, "sha256"))), 64);
}

static size_t found(struct store *st, const char *const *types, const char *search)
{
	AUTO_JSON rows = NULL;
	AUTO(tx) tx = NULL;
	int64_t next = 0;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(audit_page(tx,
			     &(struct audit_query){.team_id = 1,
				 .until_ms = INT64_MAX,
				 .types = types,
				 .search = search,
				 .before_seq = INT64_MAX,
				 .limit = 100},
			     &rows, &next),
	    OK);
	return json_array_size(rows);
}

static void what_is_looked_for_is_found_and_nothing_else(void **state)
{
	write_one(*state, &ann, "login", "100%_!");
	write_one(*state, &ann, "login_link", "plain");
	write_one(*state, &other_team, "login", "theirs");
	assert_int_equal(found(*state, NULL, NULL), 2);
	assert_int_equal(found(*state, (const char *const[]){"login", NULL}, NULL), 1);
	assert_int_equal(found(*state, (const char *const[]){"log", NULL}, NULL), 0);
	assert_int_equal(found(*state, (const char *const[]){"login", "login_link", NULL}, NULL), 2);
	assert_int_equal(found(*state, NULL, "0%_!"), 1);
	assert_int_equal(found(*state, NULL, "%"), 1);
	assert_int_equal(found(*state, NULL, "_l"), 0);
	assert_int_equal(found(*state, NULL, "ANN@"), 2);
	assert_int_equal(found(*state, NULL, "theirs"), 0);
}

static void a_reader_is_noted_once(void **state)
{
	for (int i = 0; i < 2; i++) {
		AUTO(tx) tx = NULL;

		assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
		assert_int_equal(audit_note_reader(tx, &ann, "session-1"), OK);
		assert_int_equal(tx_commit(&tx), OK);
	}
	assert_int_equal(found(*state, (const char *const[]){"export_audit", NULL}, NULL), 1);
	sql(*state, "UPDATE audit_readers SET at = at - 43200000");
	AUTO(tx) tx = NULL;

	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(audit_note_reader(tx, &ann, "session-1"), OK);
	assert_int_equal(audit_note_reader(tx, &ann, "session-2"), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(found(*state, (const char *const[]){"export_audit", NULL}, NULL), 3);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(a_chain_for_each_team, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(what_is_rolled_back_was_never_there, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(whatever_is_changed_shows, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(what_is_cut_off_or_added_shows, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		the_oldest_are_forgotten_and_the_rest_is_whole, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(what_is_too_large_is_its_hash, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(what_is_looked_for_is_found_and_nothing_else, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(a_reader_is_noted_once, store_setup, store_teardown),
	};

	id_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
