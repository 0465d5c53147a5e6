/* Webhooks: signatures, what is told of which end, the schedule by a clock of the test's own, order, secrets. */
#include "../store_fixture.h"
#include "base/id.h"
#include "base/json.h"
#include "base/mem.h"
#include "server/webhooks/webhooks.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>

#define AGENT "bc-00000000-0000-4000-8000-000000000001"

static struct seal *the_seal;

/* RFC 4231, the cases whose key is a text. */
static void test_signatures_are_hmac_sha256(void **state)
{
	char out[WEBHOOK_SIGNATURE_LEN], key[132];

	webhook_sign("Jefe", "what do ya want for nothing?", out);
	assert_string_equal(out, "sha256=5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
	memset(key, 0xaa, 131);
	key[131] = '\0';
	webhook_sign(key, "Test Using Larger Than Block-Size Key - Hash Key First", out);
	assert_string_equal(out, "sha256=60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54");
}

static void test_a_summary_is_cut_at_characters(void **state)
{
	struct strbuf b = STRBUF(20000);
	AUTO_STR cut = NULL;
	AUTO_STR same = NULL;

	for (int i = 0; i < WEBHOOK_SUMMARY_MAX; i++)
		strbuf_adds(&b, "\xc3\xbc");
	same = webhook_summary(strbuf_str(&b));
	assert_string_equal(same, strbuf_str(&b));
	strbuf_adds(&b, "x");
	cut = webhook_summary(strbuf_str(&b));
	assert_string_equal(cut, same);
	assert_null(webhook_summary(NULL));
	assert_null(webhook_summary(" \n"));
	strbuf_fini(&b);
}

static void set(struct store *st, const char *url, const char *secret)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(webhook_set(tx, the_seal, AGENT, url, secret, "https://b.example.test/agents/" AGENT), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static void end_run(struct store *st, const char *agent, const char *status, const char *summary)
{
	const struct webhook_event e = {.agent_id = agent,
	    .status = status,
	    .repository = "https://github.com/acme/shop",
	    .ref = "",
	    .branch = "cursor/x",
	    .summary = summary,
	    .at_ms = 1000};
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(webhook_event(tx, &e), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static int64_t count(struct store *st, const char *sql)
{
	AUTO(tx) tx = NULL;
	int64_t n = -1;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_int(tx, &n, sql, ""), OK);
	return n;
}

static char *read_one(struct store *st, const char *sql)
{
	AUTO(tx) tx = NULL;
	char *text = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_text(tx, &text, sql, ""), OK);
	return text;
}

static void test_ends_are_told_where_they_should_be(void **state)
{
	AUTO_STR body = NULL;
	AUTO_STR secret = NULL;
	struct tx *tx = NULL;

	set(*state, "https://hooks.example.test/", "0123456789abcdef0123456789abcdef");
	end_run(*state, "bc-another", "FINISHED", "x");
	end_run(*state, AGENT, "CANCELLED", "x");
	assert_int_equal(count(*state, "SELECT COUNT(*) FROM outbox"), 0);
	end_run(*state, AGENT, "EXPIRED", NULL);
	body = read_one(*state, "SELECT payload FROM outbox");
	assert_string_equal(body,
	    "{\"event\":\"statusChange\",\"timestamp\":\"1970-01-01T00:00:01.000Z\",\"id\":\"" AGENT
	    "\",\"status\":\"ERROR\",\"source\":{\"repository\":\"https://github.com/acme/shop\"},\"target\":{\"url\":"
	    "\"https://b.example.test/agents/" AGENT "\",\"branchName\":\"cursor/x\"}}");
	secret = read_one(*state, "SELECT secret FROM webhooks");
	assert_null(strstr(secret, "0123456789"));
	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(webhook_drop(tx, AGENT), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(count(*state, "SELECT (SELECT COUNT(*) FROM outbox) + (SELECT COUNT(*) FROM webhooks)"), 0);
	end_run(*state, AGENT, "FINISHED", "x");
	assert_int_equal(count(*state, "SELECT COUNT(*) FROM outbox"), 0);
}

/* A port that answers nobody: bound, and nobody listens. */
static int closed_port(char *url, size_t size)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof a;
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	snprintf(url, size, "http://127.0.0.1:%d/hook", ntohs(a.sin_port));
	return fd;
}

static struct webhooks *room(struct store *st, bool allow_private)
{
	return webhooks_new(&(struct webhooks_config){.store = st, .seal = the_seal, .allow_private = allow_private});
}

static void test_attempts_follow_the_schedule(void **state)
{
	static const int64_t pauses_s[] = {10, 60, 5 * 60, 30 * 60, 2 * 60 * 60};
	AUTO(webhooks) w = room(*state, true);
	int64_t now = 1000, next = 0;
	char url[64];
	int fd = closed_port(url, sizeof url);

	set(*state, url, "0123456789abcdef0123456789abcdef");
	end_run(*state, AGENT, "FINISHED", "one");
	end_run(*state, AGENT, "FINISHED", "two");
	for (size_t i = 0; i < ARRAY_LEN(pauses_s); i++) {
		assert_int_equal(webhooks_send_one(w, now, &next), OK);
		assert_int_equal(webhooks_send_one(w, now, &next), ERR_EMPTY); /* nor does the second pass it */
		assert_true(next >= now + pauses_s[i] * 1000 && next < now + pauses_s[i] * 1000 + 5000);
		now = next;
	}
	assert_int_equal(count(*state, "SELECT COUNT(*) FROM outbox WHERE state = 'failed'"), 0);
	assert_int_equal(webhooks_send_one(w, now, &next), OK);
	assert_int_equal(
	    count(
		*state, "SELECT COUNT(*) FROM outbox WHERE state = 'failed' AND attempts = 6 AND payload LIKE '%one%'"),
	    1);
	/* It is given up: the turn of the second has come. */
	assert_int_equal(webhooks_send_one(w, now + 5000, &next), OK);
	assert_int_equal(count(*state, "SELECT COUNT(*) FROM outbox WHERE attempts = 1 AND payload LIKE '%two%'"), 1);
	close(fd);
}

static void test_where_it_must_not_go_it_never_goes(void **state)
{
	AUTO(webhooks) w = room(*state, false);
	int64_t next = 0;

	set(*state, "https://127.0.0.1/", NULL);
	end_run(*state, AGENT, "FINISHED", NULL);
	assert_int_equal(webhooks_send_one(w, 1000, &next), OK);
	assert_int_equal(count(*state, "SELECT COUNT(*) FROM outbox WHERE state = 'failed' AND attempts = 1 AND error "
				       "LIKE '%not a public one%'"),
	    1);
}

static int seal_setup(void **state)
{
	AUTO_STR path = NULL;
	int rc = store_setup(state);

	path = str_printf("%s/secret.key", store_dir);
	assert_int_equal(seal_load(path, true, &the_seal, NULL), OK);
	return rc;
}

static int seal_teardown(void **state)
{
	seal_free(&the_seal);
	return store_teardown(state);
}

int main(void)
{
	const struct CMUnitTest t[] = {
	    cmocka_unit_test(test_signatures_are_hmac_sha256),
	    cmocka_unit_test(test_a_summary_is_cut_at_characters),
	    cmocka_unit_test_setup_teardown(test_ends_are_told_where_they_should_be, seal_setup, seal_teardown),
	    cmocka_unit_test_setup_teardown(test_attempts_follow_the_schedule, seal_setup, seal_teardown),
	    cmocka_unit_test_setup_teardown(test_where_it_must_not_go_it_never_goes, seal_setup, seal_teardown),
	};

	id_init();
	return cmocka_run_group_tests(t, NULL, NULL);
}
