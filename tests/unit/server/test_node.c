/* The identity of a node, and notes. */
#include "../store_fixture.h"
#include "base/mem.h"
#include "server/node/node.h"
#include "server/node/notify.h"
#include <string.h>

static void test_each_start_is_an_epoch_of_its_own(void **state)
{
	struct node first, second, other;

	assert_int_equal(node_start(*state, "a", &first), OK);
	assert_int_equal(first.epoch, 1);
	assert_int_equal(node_start(*state, "b", &other), OK);
	assert_int_equal(other.epoch, 1);
	assert_int_equal(node_start(*state, "a", &second), OK);
	assert_int_equal(second.epoch, 2);
	assert_string_equal(second.id, "a");
	/* The process of before finds out that it has a successor; the other node does not mind. */
	assert_int_equal(node_renew(*state, &first), ERR_FENCED);
	assert_int_equal(node_renew(*state, &second), OK);
	assert_int_equal(node_renew(*state, &other), OK);
}

static void test_a_node_whose_lease_is_over_is_taken_over_once(void **state)
{
	struct node one, other;
	AUTO(tx) tx = NULL;
	AUTO_STR id = NULL;
	int64_t peers = 0;

	assert_int_equal(node_start(*state, "one", &one), OK);
	assert_int_equal(node_start(*state, "other", &other), OK);
	assert_int_equal(node_count_peers(*state, &one, &peers), OK);
	assert_int_equal(peers, 1);
	assert_false(node_is_any_over(*state, &one, false));
	/* It leaves; its lease is over at once. */
	node_leave(*state, &other);
	assert_true(node_is_any_over(*state, &one, false));
	assert_false(node_is_any_over(*state, &other, false)); /* it is not its own heir */
	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(node_take_over(tx, &one, false, &id), OK);
	assert_string_equal(id, "other");
	str_free(&id);
	assert_int_equal(node_take_over(tx, &one, false, &id), ERR_EMPTY);
	tx_free(&tx);
	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(node_take_over(tx, &one, false, &id), OK);
	assert_int_equal(tx_commit(&tx), OK);
	/* What it would still write is refused. */
	assert_int_equal(node_renew(*state, &other), ERR_FENCED);
	assert_int_equal(node_count_peers(*state, &one, &peers), OK);
	assert_int_equal(peers, 0);
	assert_false(node_is_any_over(*state, &one, false));
	/* It starts anew, as another. */
	assert_int_equal(node_start(*state, "other", &other), OK);
	assert_int_equal(other.epoch, 3);
	assert_int_equal(node_renew(*state, &other), OK);
}

struct heard {
	int runs, keys;
	char run_id[32];
};

static void hear_run(void *ctx, const struct note *note)
{
	struct heard *h = ctx;

	h->runs++;
	snprintf(h->run_id, sizeof h->run_id, "%s", note->run_id);
}

static void hear_key(void *ctx, const struct note *note)
{
	((struct heard *)ctx)->keys++;
}

static void test_a_note_reaches_all_who_listen_for_its_kind(void **state)
{
	struct notify *n = notify_new();
	struct heard one = {0}, two = {0};

	notify_listen(n, NOTE_RUN_CHANGED, hear_run, &one);
	notify_listen(n, NOTE_RUN_CHANGED, hear_run, &two);
	notify_listen(n, NOTE_KEY_REVOKED, hear_key, &two);
	notify_send(n, &(struct note){.kind = NOTE_RUN_CHANGED, .run_id = "run-1"});
	notify_send(n, &(struct note){.kind = NOTE_QUEUE_CHANGED});
	assert_int_equal(one.runs, 1);
	assert_int_equal(two.runs, 1);
	assert_int_equal(two.keys, 0);
	assert_string_equal(two.run_id, "run-1");
	notify_free(&n);
	notify_free(&n);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(test_each_start_is_an_epoch_of_its_own, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_a_node_whose_lease_is_over_is_taken_over_once, store_setup, store_teardown),
	    cmocka_unit_test(test_a_note_reaches_all_who_listen_for_its_kind),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
