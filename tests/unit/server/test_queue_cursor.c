/* Cursors of the queue, its events and filters. */
#include "base/clock.h"
#include "base/id.h"
#include "server/api/fleet_cursor.h"
#include "server/fleet/queue_events.h"
#include "server/runs/retention.h"
#include "../store_fixture.h"

static const unsigned char KEY[INSTALLATION_KEY_LEN] = "0123456789abcdef0123456789abcde";
#define AGENT "bc-11111111-2222-4333-8444-555555555555"

static struct queue_cursor some_cursor(void)
{
	return (struct queue_cursor){.team_id = 3, .seq = 42, .list_ms = 1777622400000, .filter = "0123456789abcdef"};
}

static void a_cursor_comes_back_as_it_was(void **state)
{
	struct queue_cursor c = some_cursor(), back = {0};
	char agent[] = AGENT;
	AUTO_STR event = queue_cursor_make(KEY, &c);
	AUTO_STR again = queue_cursor_make(KEY, &c);

	assert_string_equal(event, again);
	assert_int_equal(queue_cursor_read(KEY, event, &back), OK);
	assert_true(back.team_id == 3 && back.seq == 42 && back.list_ms == 1777622400000);
	assert_string_equal(back.filter, c.filter);
	assert_null(back.after.agent_id);
	c.after = (struct queue_mark){.queued_at_ms = 7, .agent_id = agent};
	AUTO_STR page = queue_cursor_make(KEY, &c);

	assert_int_equal(queue_cursor_read(KEY, page, &back), OK);
	assert_true(back.after.queued_at_ms == 7);
	assert_string_equal(back.after.agent_id, AGENT);
	queue_cursor_fini(&back);
}

static void refused(const char *text)
{
	struct queue_cursor back = {0};

	assert_int_equal(queue_cursor_read(KEY, text, &back), ERR_INVALID);
	assert_null(back.after.agent_id);
}

/* Signed with the right key, whatever it says. */
static void refused_though_signed(const char *plain)
{
	unsigned char mac[HMAC_SHA256_LEN];
	char hex[2 * HMAC_SHA256_LEN + 1];

	hmac_sha256(KEY, sizeof KEY, plain, strlen(plain), mac);
	for (size_t i = 0; i < sizeof mac; i++)
		snprintf(hex + 2 * i, 3, "%02x", mac[i]);
	AUTO_STR whole = str_printf("%s %s", plain, hex);
	AUTO_STR text = base64url_encode(whole, strlen(whole));

	refused(text);
}

static void nothing_else_is_a_cursor(void **state)
{
	const struct queue_cursor c = some_cursor();
	AUTO_STR text = queue_cursor_make(KEY, &c);
	unsigned char other[INSTALLATION_KEY_LEN] = "another";
	struct queue_cursor back = {0};

	assert_int_equal(queue_cursor_read(other, text, &back), ERR_INVALID);
	for (size_t i = 0; text[i] != '\0'; i++) {
		char was = text[i];

		text[i] = was == 'A' ? 'B' : 'A';
		refused(text);
		text[i] = was;
	}
	for (const char *const *s = (const char *const[]){"", "x", "====", "MQ", NULL}; *s != NULL; s++)
		refused(*s);
	refused_though_signed("");
	refused_though_signed("1");
	refused_though_signed("2 3 42 1777622400000 0123456789abcdef");
	refused_though_signed("1 0 42 1777622400000 0123456789abcdef");
	refused_though_signed("1 3 -1 1777622400000 0123456789abcdef");
	refused_though_signed("1 3 42 x 0123456789abcdef");
	refused_though_signed("1 3 42 1777622400000 0123456789abcde");
	refused_though_signed("1 3 42 1777622400000 0123456789abcdef 7");
	refused_though_signed("1 3 42 1777622400000 0123456789abcdef 7 bc-x");
	refused_though_signed("1 3 42 1777622400000 0123456789abcdef 7 " AGENT " 1");
	refused_though_signed("1 3 42 9223372036854775807 0123456789abcdef");
}

static void a_chain_lasts_five_minutes(void **state)
{
	const struct queue_cursor c = some_cursor();

	assert_false(queue_cursor_is_over(&c, c.list_ms));
	assert_false(queue_cursor_is_over(&c, c.list_ms + 299999));
	assert_true(queue_cursor_is_over(&c, c.list_ms + 300000));
	/* A clock that was set back a little does not matter, one that was set back far does. */
	assert_false(queue_cursor_is_over(&c, c.list_ms - 1000));
	assert_true(queue_cursor_is_over(&c, c.list_ms - 300001));
}

static void same_filter(const char *a, const char *b, bool same)
{
	struct queue_filter f = {0}, g = {0};
	char x[CURSOR_FILTER_LEN], y[CURSOR_FILTER_LEN];
	struct why why;

	assert_int_equal(queue_filter_read(a, NULL, &f, &why), OK);
	assert_int_equal(queue_filter_read(b, NULL, &g, &why), OK);
	queue_filter_hash(&f, x);
	queue_filter_hash(&g, y);
	assert_int_equal(strcmp(x, y) == 0, same);
	queue_filter_fini(&f);
	queue_filter_fini(&g);
}

static void filters_are_compared_by_what_they_mean(void **state)
{
	struct queue_filter f = {0};
	struct why why;

	same_filter("acme/shop", "https://github.com/ACME/shop.git", true);
	same_filter("acme/shop", "git@github.com:acme/shop", true);
	same_filter("gl.example/a/b/c", "https://u:p@gl.example:443/a/b/c/", true);
	same_filter("acme/shop", "https://gl.example/acme/shop", false);
	same_filter("acme/shop", NULL, false);
	for (const char *const *s = (const char *const[]){"", "shop", "/", "/x", "https://", "https://h", "-a/b", NULL};
	     *s != NULL; s++)
		assert_int_equal(queue_filter_read(*s, NULL, &f, &why), ERR_INVALID);
	assert_int_equal(queue_filter_read(NULL, "", &f, &why), ERR_INVALID);
	assert_null(f.repo);
	assert_null(f.pool);
}

static int64_t count(struct store *st)
{
	struct tx *tx = NULL;
	int64_t n = -1;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_int(tx, &n, "SELECT COUNT(*) FROM queue_events", ""), OK);
	tx_free(&tx);
	return n;
}

static void sweep(struct store *st, int64_t now_ms)
{
	const struct retention keep = {.events_ms = 1000};
	bool free_space = false;

	assert_int_equal(retention_step(st, &keep, now_ms, 60000, &free_space), OK);
}

static void events_are_numbered_and_kept(void **state)
{
	const int64_t now = 1777622400000, minute = 60000;
	struct queue_event e[3];
	struct tx *tx = NULL;
	int64_t newest = 0;
	bool kept = false;
	size_t n = 0;

	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	for (int i = 0; i < 10003; i++)
		assert_int_equal(
		    queue_event_add(tx, 1, QUEUE_CREATED, AGENT, "gpu", "acme/shop", "h", NULL, 0, now), OK);
	assert_int_equal(queue_event_add(tx, 2, QUEUE_EXPIRED, AGENT, "ci", "", "", "w", 5, now), OK);
	assert_int_equal(queue_event_newest(tx, 1, &newest), OK);
	assert_int_equal(newest, 10003);
	assert_int_equal(queue_event_newest(tx, 3, &newest), OK);
	assert_int_equal(newest, 0);
	assert_int_equal(queue_event_load(tx, 1, 10001, e, 3, &n), OK);
	assert_int_equal(n, 2);
	assert_true(e[0].seq == 10002 && e[1].seq == 10003);
	assert_string_equal(e[0].kind, "created");
	assert_string_equal(e[0].pool, "gpu");
	for (size_t i = 0; i < n; i++)
		queue_event_fini(&e[i]);
	assert_int_equal(queue_event_is_kept(tx, 3, 0, &kept), OK);
	assert_true(kept); /* nothing has happened yet */
	assert_int_equal(tx_commit(&tx), OK);

	sweep(*state, now + 9 * minute);
	assert_int_equal(count(*state), 10004);
	sweep(*state, now + 11 * minute);
	assert_int_equal(count(*state), 10001); /* the newest 10,000 of a team stay, however old */
	assert_int_equal(tx_begin(*state, TX_READ, &tx), OK);
	assert_int_equal(queue_event_is_kept(tx, 1, 2, &kept), OK);
	assert_false(kept);
	assert_int_equal(queue_event_is_kept(tx, 1, 3, &kept), OK);
	assert_true(kept);
	assert_int_equal(queue_event_is_kept(tx, 1, 10004, &kept), OK);
	assert_false(kept); /* from a store that has gone further than this one */
	tx_free(&tx);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_cursor_comes_back_as_it_was),
	    cmocka_unit_test(nothing_else_is_a_cursor),
	    cmocka_unit_test(a_chain_lasts_five_minutes),
	    cmocka_unit_test(filters_are_compared_by_what_they_mean),
	    cmocka_unit_test_setup_teardown(events_are_numbered_and_kept, store_setup, store_teardown),
	};

	id_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
