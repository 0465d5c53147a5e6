/* Which runs have a thread: the cap, the order, and runs that are to be looked at once more. */
#include "base/clock.h"
#include "base/mailbox.h"
#include "base/mem.h"
#include "base/errors.h"
#include "server/runs/supervisor.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <cmocka.h>

#define DEADLINE_MS 20000

/* What `drive` does here: it says that it began, and waits for a word to end. */
struct stage {
	struct mailbox *begun; /* ids, malloc'ed */
	struct mailbox *end; /* tokens: one lets one drive end */
	atomic_int active, most;
};

static void drive(void *ctx, const char *run_id)
{
	struct stage *s = ctx;
	int now = atomic_fetch_add(&s->active, 1) + 1, most = atomic_load(&s->most);
	void *token;

	while (now > most && !atomic_compare_exchange_weak(&s->most, &most, now))
		continue;
	IGNORE(mailbox_post_always(s->begun, str_dup(run_id)));
	IGNORE(mailbox_receive(s->end, clock_mono_ms() + DEADLINE_MS, &token));
	atomic_fetch_sub(&s->active, 1);
}

static pthread_mutex_t one_reader = PTHREAD_MUTEX_INITIALIZER;

/* A mailbox has one reader: here the drives take turns at it. */
static void drive_guarded(void *ctx, const char *run_id)
{
	struct stage *s = ctx;
	int now = atomic_fetch_add(&s->active, 1) + 1, most = atomic_load(&s->most);
	void *token;

	while (now > most && !atomic_compare_exchange_weak(&s->most, &most, now))
		continue;
	IGNORE(mailbox_post_always(s->begun, str_dup(run_id)));
	pthread_mutex_lock(&one_reader);
	IGNORE(mailbox_receive(s->end, clock_mono_ms() + DEADLINE_MS, &token));
	pthread_mutex_unlock(&one_reader);
	atomic_fetch_sub(&s->active, 1);
}

static struct stage stage_new(void)
{
	return (struct stage){.begun = mailbox_new(100000, free), .end = mailbox_new(100000, NULL)};
}

static void stage_fini(struct stage *s)
{
	mailbox_free(&s->begun);
	mailbox_free(&s->end);
}

static void expect_begun(struct stage *s, const char *id)
{
	void *msg = NULL;

	assert_int_equal(mailbox_receive(s->begun, clock_mono_ms() + DEADLINE_MS, &msg), OK);
	assert_string_equal(msg, id);
	free(msg);
}

static void let_one_end(struct stage *s)
{
	static char token;

	assert_int_equal(mailbox_post(s->end, &token), OK);
}

static void test_waiting_runs_begin_in_their_order(void **state)
{
	struct stage stage = stage_new();
	struct supervisor *s =
	    supervisor_new(&(struct supervisor_config){.max_threads = 1, .drive = drive, .ctx = &stage});
	unsigned active;
	size_t waiting;

	supervisor_drive(s, "a");
	expect_begun(&stage, "a");
	supervisor_drive(s, "b");
	supervisor_drive(s, "c");
	supervisor_drive(s, "b"); /* it waits already */
	supervisor_count(s, &active, &waiting);
	assert_int_equal(active, 1);
	assert_int_equal(waiting, 2);
	let_one_end(&stage);
	expect_begun(&stage, "b");
	/* A newer run comes at the moment in which one ends: it goes behind those that wait. */
	supervisor_drive(s, "d");
	let_one_end(&stage);
	expect_begun(&stage, "c");
	let_one_end(&stage);
	expect_begun(&stage, "d");
	let_one_end(&stage);
	supervisor_stop(s);
	assert_int_equal(atomic_load(&stage.most), 1);
	supervisor_free(&s);
	stage_fini(&stage);
}

static void test_a_run_that_changed_is_looked_at_once_more(void **state)
{
	struct stage stage = stage_new();
	struct supervisor *s =
	    supervisor_new(&(struct supervisor_config){.max_threads = 4, .drive = drive, .ctx = &stage});

	supervisor_drive(s, "a");
	expect_begun(&stage, "a");
	supervisor_drive(s, "a");
	supervisor_drive(s, "a");
	assert_true(supervisor_knows(s, "a"));
	let_one_end(&stage);
	expect_begun(&stage, "a"); /* once for both */
	let_one_end(&stage);
	supervisor_stop(s);
	assert_false(supervisor_knows(s, "a"));
	assert_int_equal(atomic_load(&stage.most), 1);
	supervisor_free(&s);
	stage_fini(&stage);
}

#define CROWD 8
#define EACH 200
#define CAP 3

struct crowd {
	struct supervisor *s;
	int number;
};

static void *call_for_many(void *arg)
{
	struct crowd *c = arg;

	for (int i = 0; i < EACH; i++) {
		AUTO_STR id = str_printf("run-%d-%d", c->number, i);

		supervisor_drive(c->s, id);
		supervisor_tick(c->s);
	}
	return NULL;
}

static void test_the_cap_holds_in_a_crowd(void **state)
{
	struct stage stage = stage_new();
	struct supervisor *s =
	    supervisor_new(&(struct supervisor_config){.max_threads = CAP, .drive = drive_guarded, .ctx = &stage});
	struct crowd crowd[CROWD];
	pthread_t threads[CROWD];

	for (int i = 0; i < CROWD * EACH; i++)
		let_one_end(&stage);
	for (int i = 0; i < CROWD; i++) {
		crowd[i] = (struct crowd){s, i};
		assert_int_equal(pthread_create(&threads[i], NULL, call_for_many, &crowd[i]), 0);
	}
	for (int i = 0; i < CROWD; i++)
		pthread_join(threads[i], NULL);
	for (int i = 0; i < CROWD * EACH; i++) {
		void *id = NULL;

		assert_int_equal(mailbox_receive(stage.begun, clock_mono_ms() + DEADLINE_MS, &id), OK);
		free(id);
	}
	supervisor_stop(s);
	assert_in_range(atomic_load(&stage.most), 1, CAP);
	supervisor_free(&s);
	stage_fini(&stage);
}

static void test_stopping_drops_those_that_wait(void **state)
{
	struct stage stage = stage_new();
	struct supervisor *s =
	    supervisor_new(&(struct supervisor_config){.max_threads = 1, .drive = drive, .ctx = &stage});

	supervisor_drive(s, "a");
	expect_begun(&stage, "a");
	supervisor_drive(s, "b");
	mailbox_close(stage.end); /* `drive` ends */
	supervisor_stop(s);
	supervisor_drive(s, "c");
	supervisor_free(&s);
	stage_fini(&stage);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_waiting_runs_begin_in_their_order),
	    cmocka_unit_test(test_a_run_that_changed_is_looked_at_once_more),
	    cmocka_unit_test(test_the_cap_holds_in_a_crowd),
	    cmocka_unit_test(test_stopping_drops_those_that_wait),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
