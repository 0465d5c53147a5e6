/* Descriptions of tools: what is taken, and that the store keeps them only while somebody refers to them. */
#include "../store_fixture.h"
#include "server/fleet/tool_sets.h"

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

static struct tool_set *read_set(const char *name)
{
	AUTO_STR text = str_printf("[{\"name\":\"%s\",\"class\":\"read\"}]", name);
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct tool_set *s = NULL;
	struct why why = {0};

	h.tools_json = text;
	assert_int_equal(tool_set_read(st, &h, &s, &why), OK);
	return s;
}

/* Stored at `now`, for a connected worker or a run of that name, or for nobody (NULL). */
static void add_set(const char *name, const char *worker, const char *run, int64_t now)
{
	struct tool_set *s = read_set(name);
	struct tx *tx = begin();

	assert_int_equal(tool_set_store(tx, s, "sa", now), OK);
	if (worker != NULL)
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO workers(team_id, id, link_epoch, name, pool, key_id, service_account_id,"
			" workspace_root, busy, draining, connected_at, idle_since, tool_set)"
			" VALUES(1, $1, 1, $1, 'default', 'k', 'sa', '/', 0, 0, 0, 0, $2)",
			"ss", worker, s->hash),
		    OK);
	if (run != NULL)
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO runs(id, agent_id, number, status, request_id, created_at, updated_at, "
			"input_tokens,"
			" output_tokens, cache_read_tokens, cache_write_tokens, owner_epoch, last_seq, last_ms, last_n,"
			" tool_set) VALUES($1, 'a', 1, 'FINISHED', 'r', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, $2)",
			"ss", run, s->hash),
		    OK);
	assert_int_equal(tx_commit(&tx), OK);
	tool_set_free(&s);
}

static int find_set(const char *name)
{
	struct tool_set *s = read_set(name), *found = NULL;
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct why why = {0};
	int rc;

	h.tools_hash = s->hash;
	rc = tool_set_read(st, &h, &found, &why);
	if (rc == OK) {
		assert_string_equal(found->hash, s->hash);
		assert_string_equal(found->text, s->text);
	}
	tool_set_free(&found);
	tool_set_free(&s);
	return rc;
}

static void what_nobody_refers_to_is_forgotten(void **state)
{
	struct tx *tx;

	add_set("idle", NULL, NULL, 1000);
	add_set("fresh", NULL, NULL, 2000);
	add_set("connected", "w", NULL, 1000);
	add_set("named", NULL, "run", 1000);
	assert_int_equal(tool_sets_forget(st, 1500), OK);
	assert_int_equal(find_set("idle"), ERR_NOT_FOUND);
	assert_int_equal(find_set("fresh"), OK);
	assert_int_equal(find_set("connected"), OK);
	assert_int_equal(find_set("named"), OK);
	assert_int_equal(tool_sets_forget(st, 1500), OK);

	/* A worker that goes has used its set until now. */
	tx = begin();
	assert_int_equal(tool_set_release(tx, 1, "w", 100000), OK);
	assert_int_equal(tx_exec(tx, "DELETE FROM workers", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(tool_sets_forget(st, 99999), OK);
	assert_int_equal(find_set("connected"), OK);
	assert_int_equal(find_set("fresh"), ERR_NOT_FOUND);
	assert_int_equal(tool_sets_forget(st, 100001), OK);
	assert_int_equal(find_set("connected"), ERR_NOT_FOUND);
	assert_int_equal(find_set("named"), OK);
}

static void a_flood_of_descriptions_meets_a_limit(void **state)
{
	struct tool_set *s = read_set("one-more");
	struct tx *tx = begin();
	int n = 0;

	for (; n < 5000; n++) {
		AUTO_STR name = str_printf("t%d", n);
		struct tool_set *other = read_set(name);
		int rc = n < 4096 ? tx_exec(tx, "INSERT INTO tool_sets(hash, tools, last_used_at) VALUES($1, $2, 0)",
					"ss", other->hash, other->text)
				  : tool_set_store(tx, other, "sa", 0);

		tool_set_free(&other);
		if (rc != OK) {
			assert_int_equal(rc, ERR_FULL);
			break;
		}
	}
	assert_true(n < 5000);
	assert_int_equal(tool_set_store(tx, s, "sa", 0), ERR_FULL);
	tool_set_free(&s);
	s = read_set("t7");
	assert_int_equal(tool_set_store(tx, s, "sa", 0), OK);
	assert_int_equal(tx_commit(&tx), OK);
	tool_set_free(&s);
}

/* One account that sends many does not take the room of the others. */
static void the_descriptions_of_an_account_meet_a_lower_limit(void **state)
{
	struct tx *tx = begin();
	int n = 0, rc = OK;

	for (; n < 300 && rc == OK; n++) {
		AUTO_STR name = str_printf("t%d", n);
		struct tool_set *s = read_set(name);

		rc = tool_set_store(tx, s, "greedy", 0);
		tool_set_free(&s);
	}
	assert_int_equal(rc, ERR_FULL);
	assert_int_equal(n, 257);
	struct tool_set *s = read_set("one-more");

	assert_int_equal(tool_set_store(tx, s, "another", 0), OK);
	tool_set_free(&s);
	tx_free(&tx);
}

static void check_list(const char *text, const char *sentence)
{
	AUTO_JSON list = json_loads(text, 0, NULL);
	struct why why = {""};
	int rc = tool_list_check(list, &why);

	assert_non_null(list);
	if (sentence == NULL)
		assert_int_equal(rc, OK);
	else if (rc != ERR_INVALID || strstr(why.text, sentence) == NULL)
		fail_msg("%s: %d %s", text, rc, why.text);
}

static void a_list_from_outside_is_checked(void **state)
{
	AUTO_JSON many = json_array();
	AUTO_STR text = NULL;

	check_list("[]", NULL);
	check_list(
	    "[{\"name\":\"a\",\"class\":\"read\"},{\"name\":\"b\",\"class\":\"execute\",\"parameters\":{}}]", NULL);
	check_list("{}", "array");
	check_list("[1]", "tool 0 must be an object");
	check_list("[{\"class\":\"read\"}]", "the name of tool 0");
	check_list("[{\"name\":\"a b\",\"class\":\"read\"}]", "the name of tool 0");
	check_list("[{\"name\":\"a\"}]", "class of tool 'a'");
	check_list("[{\"name\":\"a\",\"class\":\"read\"},{\"name\":\"A\",\"class\":\"read\"}]", "two tools 'A'");
	check_list("[{\"name\":\"a\",\"class\":\"read\",\"parameters\":[]}]", "parameters of tool 'a'");
	for (int i = 0; i <= TOOLS_MAX; i++) {
		AUTO_STR name = str_printf("t%d", i);

		json_array_append_new(many, json_pack("{s:s, s:s}", "name", name, "class", "read"));
	}
	text = json_text(many);
	check_list(text, "at most 500");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_setup_teardown(what_nobody_refers_to_is_forgotten, setup, store_teardown),
	    cmocka_unit_test(a_list_from_outside_is_checked),
	    cmocka_unit_test_setup_teardown(a_flood_of_descriptions_meets_a_limit, setup, store_teardown),
	    cmocka_unit_test_setup_teardown(the_descriptions_of_an_account_meet_a_lower_limit, setup, store_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
