/* Mailboxes and pools under threads. */
#include "base/clock.h"
#include "base/errors.h"
#include "base/mailbox.h"
#include "base/mem.h"
#include "base/pool.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <setjmp.h>
#include <cmocka.h>

static int dropped;

static void drop(void *msg)
{
	dropped++;
	free(msg);
}

static void test_bound_and_order(void **state)
{
	struct mailbox *m = mailbox_new(2, NULL);
	int a, b, c;
	void *got;

	assert_int_equal(mailbox_post(m, &a), OK);
	assert_int_equal(mailbox_post(m, &b), OK);
	assert_int_equal(mailbox_post(m, &c), ERR_FULL);
	assert_int_equal(mailbox_post_always(m, &c), OK);
	assert_int_equal(mailbox_receive(m, 0, &got), OK);
	assert_ptr_equal(got, &a);
	mailbox_close(m);
	assert_int_equal(mailbox_post(m, &a), ERR_CLOSED);
	assert_int_equal(mailbox_receive(m, 0, &got), OK);
	assert_int_equal(mailbox_receive(m, 0, &got), OK);
	assert_ptr_equal(got, &c);
	assert_int_equal(mailbox_receive(m, INT64_MAX, &got), ERR_CLOSED);
	mailbox_free(&m);
}

static void test_deadline(void **state)
{
	struct mailbox *m = mailbox_new(2, NULL);
	int64_t before = clock_mono_ms();
	void *got;

	assert_int_equal(mailbox_receive(m, before + 20, &got), ERR_TIMEOUT);
	assert_true(clock_mono_ms() >= before + 20);
	mailbox_free(&m);
}

static void test_what_is_left_is_dropped_by_the_last_owner(void **state)
{
	struct mailbox *m = mailbox_new(10, drop), *other = mailbox_ref(m);

	dropped = 0;
	assert_int_equal(mailbox_post(m, mem_alloc(1)), OK);
	mailbox_free(&m);
	assert_int_equal(dropped, 0);
	mailbox_free(&other);
	assert_int_equal(dropped, 1);
}

#define POSTERS 8
#define EACH 2000

static void *poster(void *arg)
{
	for (int i = 0; i < EACH; i++)
		assert_int_equal(mailbox_post_always(arg, mem_alloc(1)), OK);
	return NULL;
}

static void test_many_posters(void **state)
{
	struct mailbox *m = mailbox_new(1, NULL);
	pthread_t t[POSTERS];
	void *got;

	for (int i = 0; i < POSTERS; i++)
		pthread_create(&t[i], NULL, poster, m);
	for (int i = 0; i < POSTERS * EACH; i++) {
		assert_int_equal(mailbox_receive(m, clock_mono_ms() + 30000, &got), OK);
		free(got);
	}
	for (int i = 0; i < POSTERS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(mailbox_receive(m, 0, &got), ERR_TIMEOUT);
	mailbox_free(&m);
}

static _Atomic int jobs_done;

static void *put_and_wake(void *arg)
{
	static int one, two;

	assert_int_equal(mailbox_put(arg, &one), OK);
	assert_int_equal(mailbox_put(arg, &two), OK);
	mailbox_wake(arg);
	return NULL;
}

static void test_what_was_put_comes_with_the_wake(void **state)
{
	for (int i = 0; i < 2000; i++) {
		struct mailbox *m = mailbox_new(1, NULL);
		void *got;
		pthread_t t;

		assert_int_equal(pthread_create(&t, NULL, put_and_wake, m), 0);
		assert_int_equal(mailbox_receive(m, clock_mono_ms() + 10000, &got), OK);
		assert_int_equal(mailbox_receive(m, clock_mono_ms() + 10000, &got), OK);
		pthread_join(t, NULL);
		mailbox_free(&m);
	}
}

static void job(void *arg)
{
	atomic_fetch_add(&jobs_done, 1);
}

static void test_pool_finishes_what_it_took(void **state)
{
	struct pool *p = pool_new("test", 4, 10000);

	for (int i = 0; i < 1000; i++)
		assert_int_equal(pool_submit(p, job, NULL), OK);
	pool_stop(p);
	assert_int_equal(jobs_done, 1000);
	assert_int_equal(pool_submit(p, job, NULL), ERR_CLOSED);
	pool_free(&p);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_bound_and_order),
	    cmocka_unit_test(test_deadline),
	    cmocka_unit_test(test_what_is_left_is_dropped_by_the_last_owner),
	    cmocka_unit_test(test_many_posters),
	    cmocka_unit_test(test_what_was_put_comes_with_the_wake),
	    cmocka_unit_test(test_pool_finishes_what_it_took),
	};

	return cmocka_run_group_tests(t, NULL, NULL);
}
