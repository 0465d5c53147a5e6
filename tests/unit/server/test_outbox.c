/* The outbox: with its transaction or not at all, at least once, back-off, ends, leases between senders. */
#include "../store_fixture.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "server/outbox/outbox.h"
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/wait.h>

/* What a handler does, and what it saw. */
struct deeds {
	int answer;
	const char *sentence;
	atomic_int calls;
	char id[OUTBOX_ID_LEN], payload[64];
	int64_t attempt, hold_ms;
	bool crash;
};

static int handle(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct deeds *d = ctx;

	atomic_fetch_add(&d->calls, 1);
	snprintf(d->id, sizeof d->id, "%s", item->id);
	snprintf(d->payload, sizeof d->payload, "%s", item->payload);
	d->attempt = item->attempt;
	if (d->hold_ms != 0)
		outbox_hold(item, d->hold_ms);
	if (d->crash)
		_exit(7);
	return d->answer != OK && d->sentence != NULL ? why_set(why, d->answer, "%s", d->sentence) : d->answer;
}

static void add(struct store *st, const char *kind, const char *payload, int64_t due_ms)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(outbox_add(tx, kind, "subject-1", payload, 1000, due_ms, NULL), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static struct outbox *sender(struct store *st, struct deeds *d)
{
	const struct outbox_config cfg = {.store = st,
	    .node_id = "n",
	    .lease_ms = 10000,
	    .backoff_min_ms = 1000,
	    .backoff_max_ms = 4000,
	    .attempts_max = 5,
	    .age_max_ms = 1000000};
	struct outbox *o = outbox_new(&cfg);

	outbox_handle(o, "call", handle, d);
	return o;
}

static char *read_text(struct store *st, const char *sql)
{
	AUTO(tx) tx = NULL;
	char *text = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_text(tx, &text, sql, ""), OK);
	return text;
}

static void assert_text(struct store *st, const char *sql, const char *value)
{
	AUTO_STR text = read_text(st, sql);

	assert_string_equal(text, value);
}

/* Literals: the store knows a statement by its address. */
#define only(st, column) read_text((st), "SELECT " column " FROM outbox")
#define assert_only(st, column, value) assert_text((st), "SELECT " column " FROM outbox", (value))

static void test_it_comes_and_goes_with_its_transaction(void **state)
{
	struct deeds d = {0};
	AUTO(outbox) o = sender(*state, &d);
	struct tx *tx = NULL;
	int64_t next = 0;

	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(outbox_add(tx, "call", "s", "p", 1000, 1000, NULL), OK);
	tx_free(&tx);
	assert_int_equal(outbox_send_one(o, 2000, &next), ERR_EMPTY);
	assert_true(next == INT64_MAX);
	add(*state, "call", "hello", 5000);
	assert_int_equal(outbox_send_one(o, 4999, &next), ERR_EMPTY);
	assert_int_equal(next, 5000);
	assert_int_equal(outbox_send_one(o, 5000, &next), OK);
	assert_int_equal(d.calls, 1);
	assert_string_equal(d.payload, "hello");
	assert_int_equal(d.attempt, 1);
	assert_only(*state, "state", "done");
	assert_only(*state, "id", d.id);
	assert_int_equal(outbox_send_one(o, 1000000, &next), ERR_EMPTY);
}

static void test_a_kind_without_a_handler_waits(void **state)
{
	struct deeds d = {0};
	AUTO(outbox) o = sender(*state, &d);
	int64_t next = 0;

	add(*state, "other", "x", 1000);
	assert_int_equal(outbox_send_one(o, 2000, &next), ERR_EMPTY);
	assert_only(*state, "state", "waiting");
	assert_int_equal(outbox_start(o, NULL), OK);
}

static void test_a_payload_has_a_limit(void **state)
{
	AUTO_STR large = mem_alloc(OUTBOX_PAYLOAD_MAX + 2);
	AUTO(tx) tx = NULL;

	memset(large, 'x', OUTBOX_PAYLOAD_MAX + 1);
	large[OUTBOX_PAYLOAD_MAX + 1] = '\0';
	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(outbox_add(tx, "call", "s", large, 1, 1, NULL), ERR_TOO_LARGE);
}

static void test_pauses_grow_and_attempts_end(void **state)
{
	struct deeds d = {.answer = ERR_NET, .sentence = "nobody answers"};
	AUTO(outbox) o = sender(*state, &d);
	int64_t now = 1000, full = 1000;

	add(*state, "call", "x", now);
	for (int i = 1; i <= 5; i++) {
		int64_t next = 0;

		assert_int_equal(outbox_send_one(o, now, &next), OK);
		assert_int_equal(d.attempt, i);
		assert_only(*state, "error", "nobody answers");
		if (i == 5)
			break;
		assert_only(*state, "state", "waiting");
		assert_int_equal(outbox_send_one(o, now, &next), ERR_EMPTY);
		/* A little more: the time that the handler took counts. */
		assert_true(next >= now + full / 2 && next <= now + full + 500);
		now = next;
		full = MIN(full * 2, 4000);
	}
	assert_only(*state, "state", "failed");
	assert_int_equal(d.calls, 5);
}

static void test_what_can_never_be_done_is_not_tried_again(void **state)
{
	struct deeds d = {.answer = ERR_INVALID, .sentence = "there is no such address"};
	AUTO(outbox) o = sender(*state, &d);
	int64_t next = 0;

	add(*state, "call", "x", 1000);
	assert_int_equal(outbox_send_one(o, 1000, &next), OK);
	assert_only(*state, "state", "failed");
	assert_only(*state, "error", "there is no such address");
}

static void test_old_age_ends_it(void **state)
{
	struct deeds d = {.answer = ERR_NET};
	AUTO(outbox) o = sender(*state, &d);
	int64_t next = 0;

	add(*state, "call", "x", 1000);
	assert_int_equal(outbox_send_one(o, 1000 + 1000000, &next), OK);
	assert_only(*state, "state", "failed");
	assert_only(*state, "error", "the network or the peer failed");
}

/* The process dies between the deed and its mark. */
static void test_after_a_crash_it_is_done_again_with_the_same_id(void **state)
{
	struct store *st = *state;
	AUTO_STR id = NULL;
	struct deeds d = {0};
	struct outbox *o;
	int64_t next = 0;
	int status = 0;
	pid_t child;

	add(st, "call", "x", 1000);
	id = only(st, "id");
	store_close(&st);
	child = fork();
	if (child == 0) {
		struct deeds last = {.crash = true};

		if (store_open(store_dir, &st, NULL) == OK)
			IGNORE(outbox_send_one(sender(st, &last), 1000, &next));
		_exit(1);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 7);
	assert_int_equal(store_open(store_dir, &st, NULL), OK);
	*state = st;
	o = sender(st, &d);
	assert_int_equal(outbox_send_one(o, 1001, &next), ERR_EMPTY);
	assert_int_equal(next, 11000); /* its lease */
	assert_int_equal(outbox_send_one(o, 11000, &next), OK);
	assert_int_equal(d.attempt, 2);
	assert_string_equal(d.id, id);
	assert_only(st, "state", "done");
	outbox_free(&o);
}

/* Each attempt ends without a word: the attempts are counted all the same. */
static void test_what_kills_its_sender_comes_to_an_end(void **state)
{
	struct store *st = *state;
	struct deeds d = {0};
	AUTO(outbox) o = sender(st, &d);
	AUTO(tx) tx = NULL;
	int64_t next = 0;

	add(st, "call", "x", 1000);
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx, "UPDATE outbox SET attempts = 5", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(outbox_send_one(o, 1000, &next), OK);
	assert_int_equal(d.calls, 0);
	assert_only(st, "state", "failed");
}

/* A sender that overslept its lease does not disturb the one that has the row now. */
struct oversleeper {
	struct outbox *other;
	int64_t now_ms;
	int calls;
};

static int oversleep(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct oversleeper *s = ctx;
	int64_t next = 0;

	s->calls++;
	assert_int_equal(outbox_send_one(s->other, s->now_ms, &next), OK);
	return ERR_NET;
}

static void test_a_late_failure_does_not_touch_the_next_attempt(void **state)
{
	struct deeds d = {.answer = ERR_TIMEOUT, .sentence = "of the second"};
	AUTO(outbox) second = sender(*state, &d);
	struct oversleeper late = {.other = second, .now_ms = 20000};
	const struct outbox_config cfg = {.store = *state, .node_id = "late", .lease_ms = 10000};
	AUTO(outbox) first = outbox_new(&cfg);
	int64_t next = 0;

	outbox_handle(first, "call", oversleep, &late);
	add(*state, "call", "x", 1000);
	assert_int_equal(outbox_send_one(first, 1000, &next), OK);
	assert_int_equal(late.calls, 1);
	assert_only(*state, "error", "of the second");
	assert_only(*state, "CAST(attempts AS TEXT)", "2");
}

#define ROWS 60

static int count_one(void *ctx, const struct outbox_item *item, struct why *why)
{
	atomic_int *counts = ctx;

	atomic_fetch_add(&counts[atoi(item->payload)], 1);
	return OK;
}

static void test_two_senders_never_take_the_same_row(void **state)
{
	static atomic_int counts[ROWS];
	const struct outbox_config cfg = {.store = *state, .tick_ms = 20};
	struct outbox *a = outbox_new(&cfg), *b = outbox_new(&cfg);
	int64_t until = clock_mono_ms() + 20000, left = 1;

	outbox_handle(a, "call", count_one, counts);
	outbox_handle(b, "call", count_one, counts);
	assert_int_equal(outbox_start(a, NULL), OK);
	assert_int_equal(outbox_start(b, NULL), OK);
	for (int i = 0; i < ROWS; i++) {
		char payload[16];

		snprintf(payload, sizeof payload, "%d", i);
		add(*state, "call", payload, 1000);
		outbox_wake(i % 2 == 0 ? a : b);
	}
	while (left > 0 && clock_mono_ms() < until) {
		AUTO(tx) tx = NULL;

		assert_int_equal(tx_begin(*state, TX_READ, &tx), OK);
		assert_int_equal(tx_query_int(tx, &left, "SELECT COUNT(*) FROM outbox WHERE state <> 'done'", ""), OK);
		usleep(1000); /* interval of polling */
	}
	outbox_free(&a);
	outbox_free(&b);
	assert_int_equal(left, 0);
	for (int i = 0; i < ROWS; i++)
		assert_int_equal(counts[i], 1);
}

static void test_old_rows_are_forgotten_in_steps(void **state)
{
	struct deeds d = {0};
	AUTO(outbox) o = sender(*state, &d);
	int64_t next = 0, n = 0;

	for (int i = 0; i < 5; i++)
		add(*state, "call", "x", 1000);
	for (int i = 0; i < 4; i++)
		assert_int_equal(outbox_send_one(o, 1000, &next), OK);
	assert_int_equal(outbox_forget(*state, 500, 3, &n), OK);
	assert_int_equal(n, 0);
	assert_int_equal(outbox_forget(*state, 100000, 3, &n), OK);
	assert_int_equal(n, 3);
	assert_int_equal(outbox_forget(*state, 100000, 3, &n), OK);
	assert_int_equal(n, 1);
	assert_only(*state, "state", "waiting");
}

static void add_in_order(struct store *st, const char *subject, const char *payload)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(outbox_add_in_order(tx, "call", subject, payload, 1000), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void test_rows_in_order_wait_for_each_other(void **state)
{
	struct deeds d = {.answer = ERR_NET};
	AUTO(outbox) o = sender(*state, &d);
	int64_t next = 0;

	add_in_order(*state, "a", "first");
	add_in_order(*state, "a", "second");
	add_in_order(*state, "a", "third");
	assert_int_equal(outbox_send_one(o, 2000, &next), OK);
	assert_string_equal(d.payload, "first");
	/* It failed and waits; the others wait behind it, and another subject does not. */
	add_in_order(*state, "b", "other");
	d.answer = OK;
	assert_int_equal(outbox_send_one(o, 2000, &next), OK);
	assert_string_equal(d.payload, "other");
	assert_int_equal(outbox_send_one(o, 2000, &next), ERR_EMPTY);
	assert_true(next > 2000 && next < 5000);
	assert_int_equal(outbox_send_one(o, next, &next), OK);
	assert_string_equal(d.payload, "first");
	/* What can never be done lets the next go, too. */
	d.answer = ERR_INVALID;
	assert_int_equal(outbox_send_one(o, 10000, &next), OK);
	assert_string_equal(d.payload, "second");
	d.answer = OK;
	assert_int_equal(outbox_send_one(o, 20000, &next), OK);
	assert_string_equal(d.payload, "third");
	assert_int_equal(outbox_send_one(o, 1000000, &next), ERR_EMPTY);
	assert_true(next == INT64_MAX);
	add_in_order(*state, "a", "later");
	assert_int_equal(outbox_send_one(o, 30000, &next), OK);
	assert_string_equal(d.payload, "later");
}

static void test_a_dropped_subject_leaves_nothing(void **state)
{
	struct deeds d = {0};
	AUTO(outbox) o = sender(*state, &d);
	struct tx *tx = NULL;
	int64_t next = 0;

	add_in_order(*state, "a", "done");
	assert_int_equal(outbox_send_one(o, 1000, &next), OK);
	add_in_order(*state, "a", "x");
	add_in_order(*state, "a", "y");
	add_in_order(*state, "b", "z");
	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(outbox_drop(tx, "call", "a"), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_only(*state, "payload", "z");
	assert_int_equal(outbox_send_one(o, 2000, &next), OK);
	assert_string_equal(d.payload, "z");
}

static void test_given_pauses_are_kept_exactly(void **state)
{
	static const int64_t pauses[] = {500, 7000, 40};
	struct deeds d = {.answer = ERR_NET};
	const struct outbox_config cfg = {.store = *state, .pauses_ms = pauses, .n_pauses = ARRAY_LEN(pauses)};
	AUTO(outbox) o = outbox_new(&cfg);
	int64_t now = 1000, next = 0;

	outbox_handle(o, "call", handle, &d);
	add(*state, "call", "x", now);
	for (size_t i = 0; i < ARRAY_LEN(pauses); i++) {
		assert_int_equal(outbox_send_one(o, now, &next), OK);
		assert_int_equal(outbox_send_one(o, now, &next), ERR_EMPTY);
		assert_true(next >= now + pauses[i] && next < now + pauses[i] + 500);
		now = next;
	}
	assert_int_equal(outbox_send_one(o, now, &next), OK);
	assert_int_equal(d.calls, 4);
	assert_only(*state, "state", "failed");
}

static void test_a_limit_of_the_other_side_is_waited_for(void **state)
{
	struct store *st = *state;
	struct deeds d = {.answer = ERR_FULL};
	const struct outbox_config cfg = {
	    .store = st, .lease_ms = 10000, .attempts_max = 2, .age_max_ms = 1000000, .full_pause_ms = 700};
	AUTO(outbox) o = outbox_new(&cfg);
	int64_t now = 2000, next = 0;

	outbox_handle(o, "call", handle, &d);
	add(st, "call", "x", 1000);
	for (int i = 0; i < 5; i++, now = next) {
		assert_int_equal(outbox_send_one(o, now, &next), OK);
		assert_int_equal(outbox_send_one(o, now, &next), ERR_EMPTY);
		assert_in_range(next, now + 700, now + 800);
		assert_int_equal(d.attempt, 1);
	}
	/* Errors count as before, and so does its age. */
	d.answer = ERR_NET;
	assert_int_equal(outbox_send_one(o, now, &next), OK);
	assert_int_equal(outbox_send_one(o, now + 3600000, &next), OK);
	assert_text(st, "SELECT state FROM outbox", "failed");
	d.answer = ERR_FULL;
	add(st, "call", "y", 1000);
	assert_int_equal(outbox_send_one(o, 2000000, &next), OK);
	assert_text(st, "SELECT state FROM outbox WHERE payload = 'y'", "failed");
}

static void test_who_wants_to_be_left_alone_is(void **state)
{
	static const int64_t pauses[] = {500, 500, 500}, holds[] = {90000, 100, INT64_MAX};
	struct deeds d = {.answer = ERR_FULL};
	const struct outbox_config cfg = {.store = *state, .pauses_ms = pauses, .n_pauses = ARRAY_LEN(pauses)};
	AUTO(outbox) o = outbox_new(&cfg);
	int64_t now = 1000, next = 0;

	outbox_handle(o, "call", handle, &d);
	add(*state, "call", "x", now);
	for (size_t i = 0; i < ARRAY_LEN(holds); i++) {
		int64_t wants = MIN(MAX(holds[i], pauses[i]), OUTBOX_HOLD_MAX_MS);

		d.hold_ms = holds[i];
		assert_int_equal(outbox_send_one(o, now, &next), OK);
		assert_int_equal(outbox_send_one(o, now, &next), ERR_EMPTY);
		assert_true(next >= now + wants && next < now + wants + 500);
		now = next;
	}
	assert_int_equal(outbox_send_one(o, now, &next), OK);
	assert_only(*state, "state", "failed");
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(test_it_comes_and_goes_with_its_transaction, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_kind_without_a_handler_waits, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_payload_has_a_limit, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_pauses_grow_and_attempts_end, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_what_can_never_be_done_is_not_tried_again, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_old_age_ends_it, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_after_a_crash_it_is_done_again_with_the_same_id, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_what_kills_its_sender_comes_to_an_end, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(
		test_a_late_failure_does_not_touch_the_next_attempt, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_two_senders_never_take_the_same_row, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_old_rows_are_forgotten_in_steps, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_rows_in_order_wait_for_each_other, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_dropped_subject_leaves_nothing, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_given_pauses_are_kept_exactly, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_limit_of_the_other_side_is_waited_for, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_who_wants_to_be_left_alone_is, store_setup, store_teardown),
	};

	id_init();
	return cmocka_run_group_tests(t, NULL, NULL);
}
