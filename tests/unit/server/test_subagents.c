/* Names of subagents, and what an agent keeps of its own. */
#include "../store_fixture.h"
#include "base/mem.h"
#include "server/runs/subagents.h"
#include <string.h>

static void test_names(void **state)
{
	static const char *const good[] = {"a", "Z", "0", "a-b_c", "reviewer", "9-"};
	static const char *const bad[] = {"", "-a", "_a", "a b", "a.b", "\xc3\xa4", "a\n", "a/b"};
	AUTO_STR longest = str_printf("%064d", 1);
	AUTO_STR too_long = str_printf("%065d", 1);

	for (size_t i = 0; i < ARRAY_LEN(good); i++)
		assert_true(subagent_is_name(good[i]));
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(subagent_is_name(bad[i]));
	assert_true(subagent_is_name(longest));
	assert_false(subagent_is_name(too_long));
}

static void test_names_of_our_own(void **state)
{
	static const char *const ours[] = {"explore", "EXPLORE", "debug", "shell", "bash", "computerUse", "computeruse",
	    "browser", "generalPurpose", "generalpurpose", "plan", "Agent", "task"};
	static const char *const builtin[] = {"explore", "Shell", "debug", "generalpurpose"};
	static const char *const none[] = {"computerUse", "browser", "plan", "rev", "", "explorer"};

	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		assert_true(subagent_is_reserved(ours[i]));
	assert_false(subagent_is_reserved("rev"));
	assert_false(subagent_is_reserved("explorer"));
	for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
		assert_non_null(subagent_builtin(builtin[i]));
	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		assert_null(subagent_builtin(none[i]));
}

static json_t *load(struct store *st, const char *agent_id)
{
	AUTO(tx) tx = NULL;
	json_t *list = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(subagents_load(tx, agent_id, &list), OK);
	return list;
}

static void store(struct store *st, const char *agent_id, const json_t *list)
{
	AUTO(tx) tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(subagents_store(tx, agent_id, list), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void test_an_agent_has_its_own(void **state)
{
	struct store *st = *state;
	AUTO_JSON list =
	    json_pack("[{s:s, s:s, s:s}]", "name", "Rev", "description", "Reviews.", "prompt", "You review.");
	AUTO_JSON empty = json_array();

	store(st, "bc-1", list);
	store(st, "bc-2", empty);
	store(st, "bc-3", NULL);
	AUTO_JSON one = load(st, "bc-1");
	AUTO_JSON two = load(st, "bc-2");

	assert_true(json_equal(one, list));
	assert_int_equal(json_array_size(two), 0);
	assert_true(json_is_array(two));
	assert_non_null(subagents_find(one, "REV"));
	assert_null(subagents_find(one, "Re"));
	AUTO_STR offer = subagents_offer(one);

	assert_non_null(strstr(offer, "- Rev: Reviews.\n"));
	assert_null(strstr(offer, "You review."));
	assert_null(subagents_offer(two));
}

static void test_a_damaged_row_is_an_agent_without(void **state)
{
	static const char *const texts[] = {"", "{", "{}", "7"};
	struct store *st = *state;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		AUTO(tx) tx = NULL;

		assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
		assert_int_equal(
		    tx_exec(tx,
			"INSERT INTO agent_inputs(agent_id, run_id, kind, value) VALUES('bc-9', '', 'subagents', $1)"
			" ON CONFLICT(agent_id, run_id, kind) DO UPDATE SET value = excluded.value",
			"s", texts[i]),
		    OK);
		assert_int_equal(tx_commit(&tx), OK);
		AUTO_JSON list = load(st, "bc-9");

		assert_int_equal(json_array_size(list), 0);
	}
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_names),
	    cmocka_unit_test(test_names_of_our_own),
	    cmocka_unit_test_setup_teardown(test_an_agent_has_its_own, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_damaged_row_is_an_agent_without, store_setup, store_teardown),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
