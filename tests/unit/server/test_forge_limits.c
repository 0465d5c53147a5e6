/* What a forge wants of those who ask it often: distances, silence, and answers that are kept. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/forges/forges_priv.h"
/* cmocka wants these first. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct forge the_forge = {.magic = FORGE_MAGIC, .host = (char *)"forge.test"};

static struct forge_call call_of(const char *repo, int64_t within_ms)
{
	return (struct forge_call){.forge = &the_forge, .repo = repo, .deadline_mono_ms = clock_mono_ms() + within_ms};
}

static int try_to(struct forge_limits *l, const char *repo, bool writes)
{
	struct forge_call c = call_of(repo, 200);

	return forge_limits_wait(l, &c, writes);
}

static void test_writes_keep_a_distance_at_each_installation(void **state)
{
	struct forge_limits *app = forge_limits_new(60000, true), *token = forge_limits_new(60000, false);

	assert_int_equal(try_to(app, "acme/web", true), OK);
	assert_int_equal(try_to(app, "acme/api", true), ERR_TIMEOUT);
	assert_int_equal(try_to(app, "acme/api", false), OK);
	assert_int_equal(try_to(app, "other/web", true), OK);
	assert_int_equal(try_to(token, "acme/web", true), OK);
	assert_int_equal(try_to(token, "other/web", true), ERR_TIMEOUT);
	forge_limits_free(&app);
	forge_limits_free(&token);
}

static struct http_client_response answer(const char *retry_after, const char *remaining, const char *reset)
{
	return (struct http_client_response){.status = 403,
	    .retry_after = (char *)retry_after,
	    .limit_remaining = (char *)remaining,
	    .limit_reset = (char *)reset};
}

static void test_a_limit_is_waited_for_as_long_as_it_says(void **state)
{
	AUTO_STR soon = str_printf("%lld", (long long)(clock_wall_ms() / 1000 + 100));
	AUTO_STR late = str_printf("%lld", (long long)(clock_wall_ms() / 1000 + 100000));
	struct http_client_response r = answer("7", "0", soon);

	assert_int_equal(forge_limits_wait_of(&r), 7000);
	r = answer(NULL, "0", soon);
	assert_in_range(forge_limits_wait_of(&r), 98000, 100000);
	r = answer(NULL, "0", late);
	assert_int_equal(forge_limits_wait_of(&r), 3600 * 1000);
	r = answer("100000", NULL, NULL);
	assert_int_equal(forge_limits_wait_of(&r), 60000); /* more than a day is no word for it */
	r = answer("86400", NULL, NULL);
	assert_int_equal(forge_limits_wait_of(&r), 3600 * 1000);
	/* A secondary limit says nothing, and the window of the first is open. */
	r = answer(NULL, "4711", soon);
	assert_int_equal(forge_limits_wait_of(&r), 60000);
	r = answer("soon", "0", "never");
	assert_int_equal(forge_limits_wait_of(&r), 60000);
}

static void test_who_is_limited_asks_nothing(void **state)
{
	struct forge_limits *l = forge_limits_new(0, true);
	struct http_client_response r = answer("600", NULL, NULL);
	struct forge_call c = call_of("acme/web", 200);
	AUTO_STR soon = str_printf("%lld", (long long)(clock_wall_ms() / 1000 + 100));

	forge_limits_heed(l, &c, &r, true);
	assert_int_equal(forge_limits_wait(l, &c, false), ERR_FULL);
	assert_in_range(c.retry_ms, 590000, 600000);
	assert_non_null(strstr(c.why.text, "forge.test limits its requests and is asked again in "));
	assert_int_equal(try_to(l, "other/web", false), OK);
	/* An answer that was the last one for now. */
	r = answer(NULL, "0", soon);
	c = call_of("third/web", 200);
	forge_limits_heed(l, &c, &r, false);
	assert_int_equal(try_to(l, "third/web", false), ERR_FULL);
	r = answer(NULL, "1", soon);
	c = call_of("fourth/web", 200);
	forge_limits_heed(l, &c, &r, false);
	assert_int_equal(try_to(l, "fourth/web", false), OK);
	forge_limits_free(&l);
}

static void test_any_number_of_owners_is_bounded(void **state)
{
	struct forge_limits *l = forge_limits_new(60000, true);

	for (int i = 0; i < 256; i++) {
		AUTO_STR repo = str_printf("owner-%d/x", i);

		assert_int_equal(try_to(l, repo, true), OK);
	}
	/* From here on they share a distance. */
	assert_int_equal(try_to(l, "late/x", true), OK);
	assert_int_equal(try_to(l, "later/x", true), ERR_TIMEOUT);
	forge_limits_free(&l);
}

static void put(struct forge_limits *l, const char *path, const char *etag, size_t size)
{
	struct http_client_response r = {.status = 200, .etag = (char *)etag, .body = STRBUF(1 << 20)};

	for (size_t i = 0; i < size; i++)
		assert_int_equal(strbuf_addc(&r.body, 'x'), OK);
	forge_kept_put(l, path, &r, "next");
	strbuf_fini(&r.body);
}

static void test_answers_are_kept_within_bounds(void **state)
{
	struct forge_limits *l = forge_limits_new(0, false);
	AUTO_STR etag = NULL;
	AUTO_STR body = NULL;
	AUTO_STR cursor = NULL;
	int kept = 0;

	put(l, "/a", "\"1\"", 5);
	etag = forge_kept_etag(l, "/a");
	assert_string_equal(etag, "\"1\"");
	assert_null(forge_kept_etag(l, "/b"));
	assert_false(forge_kept_take(l, "/a", "\"2\"", &body, &cursor));
	assert_true(forge_kept_take(l, "/a", "\"1\"", &body, &cursor));
	assert_string_equal(body, "xxxxx");
	assert_string_equal(cursor, "next");
	put(l, "/none", NULL, 5);
	put(l, "/large", "\"1\"", 200 * 1024);
	assert_null(forge_kept_etag(l, "/none"));
	assert_null(forge_kept_etag(l, "/large"));
	for (int i = 0; i < 1000; i++) {
		AUTO_STR path = str_printf("/%d", i);

		put(l, path, "\"x\"", 64 * 1024);
	}
	for (int i = 0; i < 1000; i++) {
		AUTO_STR path = str_printf("/%d", i);
		AUTO_STR one = forge_kept_etag(l, path);

		kept += one != NULL;
		assert_true(one == NULL || i > 900); /* the oldest went first */
	}
	assert_in_range(kept, 50, 64);
	forge_limits_free(&l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_writes_keep_a_distance_at_each_installation),
	    cmocka_unit_test(test_a_limit_is_waited_for_as_long_as_it_says),
	    cmocka_unit_test(test_who_is_limited_asks_nothing),
	    cmocka_unit_test(test_any_number_of_owners_is_bounded),
	    cmocka_unit_test(test_answers_are_kept_within_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
