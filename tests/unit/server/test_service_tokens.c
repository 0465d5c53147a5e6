/* Tokens of services: sealed, one version after another, renewed by one at a time, each place its own. */
#include "../store_fixture.h"
#include "base/clock.h"
#include "server/triggers/service_tokens.h"

static struct seal *key(const char *name)
{
	struct seal *s = NULL;
	AUTO_STR path = str_printf("%s/%s.key", store_dir, name);

	assert_int_equal(seal_load(path, true, &s, NULL), OK);
	return s;
}

static int keep(struct store *st, const struct seal *seal, const char *place, int64_t version, const char *access)
{
	AUTO(tx) tx = NULL;
	struct service_token t = {.access = (char *)access,
	    .refresh = "refresh-secret",
	    .before = "before-secret",
	    .seed = "seed",
	    .expires_at_ms = 5000,
	    .more = json_pack("{s:s}", "bot", "U1"),
	    .version = version};
	int rc;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	rc = service_token_keep(tx, seal, "linear", place, "Name", &t, 1000);
	json_drop(&t.more);
	return rc == OK ? tx_commit(&tx) : rc;
}

static int load(struct store *st, const struct seal *seal, const char *place, struct service_token *ret)
{
	AUTO(tx) tx = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	return service_token_load(tx, seal, "linear", place, ret);
}

static void test_what_is_kept_is_read_again_and_only_with_its_key(void **state)
{
	struct store *st = *state;
	AUTO(seal) seal = key("a");
	AUTO(seal) other = key("b");
	AUTO_FINI(service_token) t = {0};
	AUTO_FINI(service_token) none = {0};
	AUTO_FINI(service_token) shut = {0};
	AUTO_STR sealed = NULL;
	AUTO(tx) tx = NULL;

	assert_int_equal(load(st, seal, "", &none), ERR_EMPTY);
	assert_int_equal(keep(st, seal, "", 0, "access-secret"), OK);
	assert_int_equal(load(st, seal, "", &t), OK);
	assert_string_equal(t.access, "access-secret");
	assert_string_equal(t.refresh, "refresh-secret");
	assert_string_equal(t.before, "before-secret");
	assert_string_equal(t.seed, "seed");
	assert_int_equal(t.expires_at_ms, 5000);
	assert_int_equal(t.version, 1);
	assert_string_equal(json_word(t.more, "bot"), "U1");
	assert_int_equal(load(st, other, "", &shut), ERR_INTERNAL);
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_query_text(tx, &sealed, "SELECT sealed FROM service_tokens", ""), OK);
	assert_null(strstr(sealed, "secret"));
	/* In another row it does not open. */
	assert_int_equal(tx_exec(tx, "UPDATE service_tokens SET place = 'T1'", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(load(st, seal, "T1", &shut), ERR_INTERNAL);
}

static void test_a_version_follows_the_one_it_began_with(void **state)
{
	struct store *st = *state;
	AUTO(seal) seal = key("a");
	AUTO_FINI(service_token) t = {0};
	AUTO_FINI(service_token) two = {0};

	assert_int_equal(keep(st, seal, "", 0, "one"), OK);
	assert_int_equal(keep(st, seal, "", 0, "another beginning"), ERR_CONFLICT);
	assert_int_equal(keep(st, seal, "", 1, "two"), OK);
	assert_int_equal(keep(st, seal, "", 1, "late"), ERR_CONFLICT);
	assert_int_equal(load(st, seal, "", &t), OK);
	assert_string_equal(t.access, "two");
	assert_int_equal(t.version, 2);
	assert_int_equal(keep(st, seal, "T2", 0, "of another place"), OK);
	assert_int_equal(load(st, seal, "T2", &two), OK);
	assert_string_equal(two.access, "of another place");
}

static bool lock(struct store *st, int64_t version, int64_t now)
{
	AUTO(tx) tx = NULL;
	bool ours = false;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(service_token_lock(tx, "linear", "", version, now, now + 100, &ours), OK);
	assert_int_equal(tx_commit(&tx), OK);
	return ours;
}

static void test_one_renews_at_a_time(void **state)
{
	struct store *st = *state;
	AUTO(seal) seal = key("a");
	AUTO(tx) tx = NULL;
	int64_t n = 0;

	assert_false(lock(st, 1, 1000));
	assert_int_equal(keep(st, seal, "", 0, "one"), OK);
	assert_false(lock(st, 2, 1000));
	assert_true(lock(st, 1, 1000));
	assert_false(lock(st, 1, 1099));
	assert_true(lock(st, 1, 1100));
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(service_token_unlock(tx, "linear", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_true(lock(st, 1, 1101));
	/* What is kept ends it as well. */
	assert_int_equal(keep(st, seal, "", 1, "two"), OK);
	assert_true(lock(st, 2, 1102));
	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(service_token_drop(tx, "linear", "", &n), OK);
	assert_int_equal(n, 1);
	assert_int_equal(tx_commit(&tx), OK);
	assert_false(lock(st, 2, 9000));
}

static void test_a_form_is_encoded(void **state)
{
	AUTO_FINI(strbuf) form = STRBUF(1000);

	service_form_add(&form, "a", "x y&z=%/\"ü");
	service_form_add(&form, "b", "-._~09AZ");
	assert_string_equal(strbuf_str(&form), "a=x%20y%26z%3D%25%2F%22%C3%BC&b=-._~09AZ");
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test_setup_teardown(
		test_what_is_kept_is_read_again_and_only_with_its_key, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_a_version_follows_the_one_it_began_with, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(test_one_renews_at_a_time, store_setup, store_teardown),
	    cmocka_unit_test(test_a_form_is_encoded)};

	cmocka_set_message_output(CM_OUTPUT_TAP);
	return cmocka_run_group_tests(t, NULL, NULL);
}
