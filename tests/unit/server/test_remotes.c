/* What remote MCP servers and authorization servers say, in all its forms: challenges, URLs, PKCE, streams of events.
 */
#include "base/id.h"
#include "base/mem.h"
#include "net/sse.h"
#include "server/oauth/oauth.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

static void test_challenges(void **state)
{
	static const struct {
		const char *header;
		bool bearer;
		const char *metadata, *scope, *error;
	} cases[] = {
	    {NULL, false, NULL, NULL, NULL},
	    {"", false, NULL, NULL, NULL},
	    {"Bearer", true, NULL, NULL, NULL},
	    {"bearer scope=a", true, NULL, "a", NULL},
	    {"Bearer scope=\"a b\", error=\"x\"", true, NULL, "a b", "x"},
	    {"Basic realm=\"Bearer scope=q, x\", Bearer resource_metadata=\"https://h/m\" , scope=\"s\"", true,
		"https://h/m", "s", NULL},
	    {"Bearer error=\"a\\\"b\", Digest scope=\"other\"", true, NULL, NULL, "a\"b"},
	    {"Negotiate abc==, Bearer scope = z", true, NULL, "z", NULL},
	    {"Digest scope=\"no\"", false, NULL, NULL, NULL},
	    {"Bearer scope=\"never ends", true, NULL, "never ends", NULL},
	    {"Bearer scope=\"first\", scope=\"second\"", true, NULL, "first", NULL},
	    {",,, ;;; Bearer ,, scope=x", true, NULL, "x", NULL},
	    {"Bearer scope=\"\\", true, NULL, "\\", NULL},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		AUTO_FINI(challenge) c = {0};

		assert_int_equal(challenge_parse(cases[i].header, &c), cases[i].bearer);
		assert_string_equal(
		    c.resource_metadata ? c.resource_metadata : "-", cases[i].metadata ? cases[i].metadata : "-");
		assert_string_equal(c.scope ? c.scope : "-", cases[i].scope ? cases[i].scope : "-");
		assert_string_equal(c.error ? c.error : "-", cases[i].error ? cases[i].error : "-");
	}
}

static void test_urls(void **state)
{
	static const char *const canonical[][2] = {{"HTTPS://Host.Example:443/", "https://host.example"},
	    {"https://h.example/MCP#x", "https://h.example/MCP"},
	    {"http://h.example:8080/a/?k=v", "http://h.example:8080/a/?k=v"},
	    {"https://[::1]:443/a", "https://[::1]/a"}};
	AUTO(web_rules) r = NULL;
	struct why why = {0};

	for (size_t i = 0; i < ARRAY_LEN(canonical); i++) {
		AUTO_STR c = web_canonical(canonical[i][0]);

		assert_string_equal(c, canonical[i][1]);
	}
	assert_true(web_same_origin("https://h/a", "https://H:443/b"));
	assert_false(web_same_origin("https://h/a", "http://h/a"));
	assert_false(web_same_origin("https://h/", "https://h.evil/"));
	assert_int_equal(web_rules_new("mcp.corp.example , 10.0.0.7:8080,[::1]", &r, &why), OK);
	assert_int_equal(web_check_url(r, "http://MCP.corp.example:99/x", &why), OK);
	assert_int_equal(web_check_url(r, "http://10.0.0.7:8080/", &why), OK);
	assert_int_equal(web_check_url(r, "http://10.0.0.7:8081/", &why), ERR_DENIED);
	assert_int_equal(web_check_url(r, "http://[::1]:5/", &why), OK);
	assert_int_equal(web_check_url(r, "http://mcp.corp.example.evil/", &why), ERR_DENIED);
	assert_int_equal(web_check_url(r, "https://user@mcp.corp.example/", &why), ERR_INVALID);
	assert_int_equal(web_check_url(r, "https://a b/", &why), ERR_INVALID);
	assert_int_equal(web_check_url(r, "https://public.example/", &why), OK);
	assert_int_equal(web_check_url(r, "https://public.example:22/", &why), ERR_DENIED);
	for (const char *const *bad = (const char *const[]){"a b", "http://x", "x:0", "x:", "[::1", NULL}; *bad != NULL;
	     bad++) {
		struct web_rules *none = NULL;

		assert_int_equal(web_rules_new(*bad, &none, &why), ERR_INVALID);
		assert_null(none);
	}
}

/* RFC 7636, appendix B. */
static void test_pkce(void **state)
{
	AUTO_STR c = oauth_challenge_of("dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
	char a[OAUTH_VERIFIER_LEN + 1], b[OAUTH_VERIFIER_LEN + 1];

	assert_string_equal(c, "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM");
	oauth_verifier(a);
	oauth_verifier(b);
	assert_int_equal(strlen(a), OAUTH_VERIFIER_LEN);
	assert_string_not_equal(a, b);
}

static void test_scopes(void **state)
{
	AUTO_STR both = oauth_scopes_join("a b", "b  c a");

	assert_string_equal(both, "a b c");
	assert_null(oauth_scopes_join(NULL, ""));
}

static int remember(void *ctx, const char *id, const char *event, const char *data)
{
	strbuf_addf(ctx, "[%s|%s|%s]", id, event, data);
	return OK;
}

/* However the bytes are cut, the events are the same. */
static void test_events(void **state)
{
	static const char bytes[] =
	    "\xef\xbb\xbf: c\r\ndata: one\rdata:two\n\nid: 7\nretry: 250\n\r\nretry: soon\nid: a\0b\ndata\n\n"
	    "event: e\ndata: \xe2\x82\xac\r\rdata: \xef\xbb\xbfx\n\n";

	for (size_t step = 1; step < sizeof bytes; step++) {
		AUTO_FINI(strbuf) seen = STRBUF(1000);
		AUTO_FINI(sse) s = {0};

		sse_init(&s, remember, &seen);
		s.tells_ids = true;
		for (size_t at = 0; at < sizeof bytes - 1; at += step)
			assert_int_equal(sse_feed(&s, bytes + at, MIN(step, sizeof bytes - 1 - at)), OK);
		assert_string_equal(strbuf_str(&seen), "[||one\ntwo][7||][|e|\xe2\x82\xac][||\xef\xbb\xbfx]");
		assert_int_equal(s.retry_ms, 250);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_challenges), cmocka_unit_test(test_urls),
	    cmocka_unit_test(test_pkce), cmocka_unit_test(test_scopes), cmocka_unit_test(test_events)};

	id_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
