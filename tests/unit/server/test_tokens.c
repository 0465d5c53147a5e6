/* Tokens: what is written can be read, nothing else can, and what the store says counts. */
#include "server/access/tokens.h"
#include "base/clock.h"
#include "base/id.h"
#include "server/access/keys.h"
#include "../store_fixture.h"

static const unsigned char KEY[INSTALLATION_KEY_LEN] = "0123456789abcdef0123456789abcde";

static const struct token SESSION = {.kind = TOKEN_SESSION,
    .team_id = 7,
    .expires_at_ms = 1800000000000,
    .key_id = "key_1",
    .agent_id = "bc-1",
    .worker_id = "w.1",
    .claim_id = "claim-1"};

static void what_is_made_can_be_read(void **state)
{
	const struct token user = {
	    .kind = TOKEN_USER, .team_id = 1, .user_id = 42, .expires_at_ms = 1700000000000, .key_id = "key_u"};
	const struct token worker = {
	    .kind = TOKEN_WORKER, .team_id = 2, .expires_at_ms = 5000, .key_id = "key_w", .key_type = "user"};
	AUTO_STR a = token_make(KEY, &SESSION, 1);
	AUTO_STR b = token_make(KEY, &user, 1);
	AUTO_STR c = token_make(KEY, &worker, 1);
	struct token *t = NULL;

	assert_true(token_has_form(a) && !token_has_form("crsr_0123"));
	assert_int_equal(token_read(KEY, a, &t), OK);
	assert_true(t->kind == TOKEN_SESSION && t->team_id == 7 && t->expires_at_ms == 1800000000000);
	assert_string_equal(t->agent_id, "bc-1");
	assert_string_equal(t->worker_id, "w.1");
	assert_string_equal(t->claim_id, "claim-1");
	assert_string_equal(t->key_id, "key_1");
	token_free(&t);
	assert_int_equal(token_read(KEY, b, &t), OK);
	assert_true(t->kind == TOKEN_USER && t->user_id == 42 && t->agent_id == NULL);
	token_free(&t);
	assert_int_equal(token_read(KEY, c, &t), OK);
	assert_true(t->kind == TOKEN_WORKER && t->user_id == 0);
	assert_string_equal(t->key_type, "user");
	token_free(&t);
}

/* Signed with the right key, whatever it says. */
static char *signed_text(const char *header, const char *payload)
{
	unsigned char mac[HMAC_SHA256_LEN];
	AUTO_STR h = base64url_encode(header, strlen(header));
	AUTO_STR p = base64url_encode(payload, strlen(payload));
	AUTO_STR body = str_printf("%s.%s", h, p);

	hmac_sha256(KEY, sizeof KEY, body, strlen(body), mac);
	AUTO_STR s = base64url_encode(mac, sizeof mac);

	return str_printf("%s.%s", body, s);
}

static void nothing_else_can(void **state)
{
	static const char *const payloads[] = {"", "[]", "null", "{}",
	    "{\"iss\":\"bullpen\",\"aud\":\"bullpen\",\"kind\":\"admin\",\"team\":1,\"keyId\":\"k\",\"exp\":9}",
	    "{\"iss\":\"other\",\"aud\":\"bullpen\",\"kind\":\"user\",\"user\":1,\"team\":1,\"keyId\":\"k\",\"exp\":9}",
	    "{\"iss\":\"bullpen\",\"aud\":\"other\",\"kind\":\"user\",\"user\":1,\"team\":1,\"keyId\":\"k\",\"exp\":9}",
	    "{\"iss\":\"bullpen\",\"aud\":\"bullpen\",\"kind\":\"user\",\"user\":0,\"team\":1,\"keyId\":\"k\",\"exp\":"
	    "9}",
	    "{\"iss\":\"bullpen\",\"aud\":\"bullpen\",\"kind\":\"user\",\"user\":1,\"team\":1,\"keyId\":\"\",\"exp\":"
	    "9}",
	    "{\"iss\":\"bullpen\",\"aud\":\"bullpen\",\"kind\":\"user\",\"user\":1,\"team\":1,\"keyId\":\"k\"}",
	    "{\"iss\":\"bullpen\",\"aud\":\"bullpen\",\"kind\":\"user\",\"user\":1,\"team\":1,\"keyId\":\"k\",\"exp\":"
	    "1e99}",
	    "{\"iss\":\"bullpen\",\"aud\":\"bullpen\",\"kind\":\"session\",\"agent\":\"a\",\"worker\":\"w\",\"team\":1,"
	    "\"keyId\":\"k\",\"exp\":9}"};
	static const char good[] = "{\"iss\":\"bullpen\",\"aud\":\"bullpen\",\"kind\":\"user\",\"user\":1,\"team\":1,"
				   "\"keyId\":\"k\",\"exp\":9}";
	unsigned char other[INSTALLATION_KEY_LEN] = "another";
	AUTO_STR token = token_make(KEY, &SESSION, 1);
	AUTO_STR fine = signed_text("{\"alg\":\"HS256\"}", good);
	struct token *t = NULL;

	assert_int_equal(token_read(KEY, fine, &t), OK); /* so the ones below fail for what they say */
	token_free(&t);
	assert_int_equal(token_read(other, token, &t), ERR_UNAUTHORIZED);
	for (size_t i = 0; i < ARRAY_LEN(payloads); i++) {
		AUTO_STR bad = signed_text("{\"alg\":\"HS256\"}", payloads[i]);

		assert_int_equal(token_read(KEY, bad, &t), ERR_UNAUTHORIZED);
	}
	/* Each single change is noticed, wherever it is. */
	for (size_t i = 0; token[i] != '\0'; i++) {
		char was = token[i];

		token[i] = was == 'A' ? 'B' : 'A';
		assert_int_equal(token_read(KEY, token, &t), ERR_UNAUTHORIZED);
		token[i] = was;
	}
	/* "none" is no algorithm. */
	AUTO_STR h = base64url_encode("{\"alg\":\"none\"}", 14);
	AUTO_STR p = base64url_encode(good, strlen(good));
	AUTO_STR unsigned_text = str_printf("%s.%s.", h, p);

	assert_int_equal(token_read(KEY, unsigned_text, &t), ERR_UNAUTHORIZED);
	for (const char *const *s = (const char *const[]){"", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d", NULL};
	     *s != NULL; s++)
		assert_int_equal(token_read(KEY, *s, &t), ERR_UNAUTHORIZED);
	assert_null(t);
}

static void the_key_is_made_once(void **state)
{
	unsigned char a[INSTALLATION_KEY_LEN], b[INSTALLATION_KEY_LEN], c[INSTALLATION_KEY_LEN];
	struct tx *tx = NULL;

	assert_int_equal(installation_key(*state, "token", a), OK);
	assert_int_equal(installation_key(*state, "token", b), OK);
	assert_int_equal(installation_key(*state, "cursor", c), OK);
	assert_memory_equal(a, b, sizeof a);
	assert_memory_not_equal(a, c, sizeof a);
	assert_int_equal(tx_begin(*state, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx, "UPDATE installation_keys SET value = 'xyz'", ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
	assert_int_equal(installation_key(*state, "token", a), ERR_INTERNAL);
}

static void change(struct store *st, const char *sql)
{
	struct tx *tx = NULL;

	assert_int_equal(tx_begin(st, TX_WRITE, &tx), OK);
	assert_int_equal(tx_exec(tx, sql, ""), OK);
	assert_int_equal(tx_commit(&tx), OK);
}

static const struct audit_by tester = {.team_id = 1, .actor = "test"};

static char *key_of(struct store *st, enum key_type type, const char *name)
{
	struct key_made made = {0};
	struct why why;

	assert_int_equal(
	    access_key_create(st, &tester, &(struct key_request){.type = type, .name = name}, &made, &why), OK);
	free(made.id);
	return made.key;
}

/* The id of the newest key. */
static char *key_id_of(struct store *st, const char *name)
{
	struct tx *tx = NULL;
	char *id = NULL;

	assert_int_equal(tx_begin(st, TX_READ, &tx), OK);
	assert_int_equal(tx_query_text(tx, &id, "SELECT id FROM api_keys WHERE name = $1", "s", name), OK);
	tx_free(&tx);
	return id;
}

static char *bearer(struct store *st, const struct token *t)
{
	unsigned char key[INSTALLATION_KEY_LEN];

	assert_int_equal(installation_key(st, TOKEN_KEY, key), OK);
	AUTO_STR text = token_make(key, t, clock_wall_ms());

	return str_printf("Bearer %s", text);
}

static void refused_as(struct store *st, const char *authorization, const char *code)
{
	AUTO(principal) p = NULL;
	struct refusal r;

	assert_int_equal(access_authenticate_worker(st, authorization, &p, &r), ERR_UNAUTHORIZED);
	assert_string_equal(r.code, code);
}

static void a_user_token_acts_as_the_user(void **state)
{
	AUTO_STR key = key_of(*state, KEY_SERVICE_ACCOUNT, "bot");
	AUTO_STR user_key = key_of(*state, KEY_USER, "ann");
	AUTO_STR id = key_id_of(*state, "bot");
	struct token t = {
	    .kind = TOKEN_USER, .team_id = 1, .user_id = 1, .key_id = id, .expires_at_ms = clock_wall_ms() + 60000};
	AUTO_STR word = bearer(*state, &t);
	AUTO(principal) p = NULL;

	assert_int_equal(access_authenticate(*state, word, &p), OK);
	assert_string_equal(p->owner, "user:1");
	assert_string_equal(p->user_name, "ann");
	assert_string_equal(p->key_id, id);
	assert_true(p->by == BY_USER_TOKEN && !principal_is_service_account(p));
	assert_true(principal_has_scope(p, SCOPE_AGENTS_WRITE) && principal_has_scope(p, SCOPE_MACHINES_CONNECT));
	assert_false(principal_has_scope(p, SCOPE_FLEET_READ) || principal_has_scope(p, SCOPE_TOKENS_MINT));
	/* Another team's user is not this one's. */
	change(*state, "UPDATE users SET team_id = 2");
	refused_as(*state, word, "unauthorized");
	change(*state, "UPDATE users SET team_id = 1");
	t.expires_at_ms = clock_wall_ms() - 1000;
	AUTO_STR late = bearer(*state, &t);

	refused_as(*state, late, "token_expired");
	assert_int_equal(access_key_revoke(*state, &tester, &(struct key_scope){0}, id), OK);
	refused_as(*state, word, "key_revoked");
}

static void a_session_token_lives_as_long_as_its_claim(void **state)
{
	AUTO_STR key = key_of(*state, KEY_SERVICE_ACCOUNT, "bot");
	AUTO_STR id = key_id_of(*state, "bot");
	const struct token t = {.kind = TOKEN_SESSION,
	    .team_id = 1,
	    .key_id = id,
	    .expires_at_ms = clock_wall_ms() + 60000,
	    .agent_id = "bc-1",
	    .worker_id = "w",
	    .claim_id = "claim-1"};
	AUTO_STR word = bearer(*state, &t);
	AUTO(principal) p = NULL;
	struct refusal r;

	refused_as(*state, word, "claim_ended");
	change(*state,
	    "INSERT INTO claims(id, agent_id, team_id, worker_id, created_at) VALUES('claim-1', 'bc-1', 1, 'w', 1)");
	assert_int_equal(access_authenticate_worker(*state, word, &p, &r), OK);
	assert_true(p->by == BY_SESSION_TOKEN);
	assert_string_equal(p->only_worker, "w");
	assert_string_equal(p->only_agent, "bc-1");
	principal_free(&p);
	/* No key of the API. */
	assert_int_equal(access_authenticate(*state, word, &p), ERR_DENIED);
	/* The same pair again is another claim. */
	change(*state, "UPDATE claims SET id = 'claim-2'");
	refused_as(*state, word, "claim_ended");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(what_is_made_can_be_read),
	    cmocka_unit_test(nothing_else_can),
	    cmocka_unit_test_setup_teardown(the_key_is_made_once, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(a_user_token_acts_as_the_user, store_setup, store_teardown),
	    cmocka_unit_test_setup_teardown(a_session_token_lives_as_long_as_its_claim, store_setup, store_teardown),
	};

	id_init();
	return cmocka_run_group_tests(tests, NULL, NULL);
}
