#include "server/access/tokens.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define KEY_HEX_LEN (INSTALLATION_KEY_LEN * 2)
/* Constant: what a token says of its algorithm is never read, so no other one can be talked into. */
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define ISSUER "bullpen"
#define SIGNATURE_B64_LEN 43

static const char *const kind_names[] = {[TOKEN_WORKER] = "worker", [TOKEN_USER] = "user", [TOKEN_SESSION] = "session"};

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int key_from_hex(const char *name, const char *hex, unsigned char ret[INSTALLATION_KEY_LEN])
{
	bool ok = strlen(hex) == KEY_HEX_LEN;

	for (size_t i = 0; ok && i < INSTALLATION_KEY_LEN; i++) {
		int high = hex_digit(hex[2 * i]), low = hex_digit(hex[2 * i + 1]);

		ok = high >= 0 && low >= 0;
		ret[i] = (unsigned char)(ok ? high << 4 | low : 0);
	}
	if (ok)
		return OK;
	log_error("store.row.damaged", "table=installation_keys name=%s", name);
	return ERR_INTERNAL;
}

static int load_key(struct tx *tx, const char *name, char **ret_hex)
{
	return tx_query_text(tx, ret_hex, "SELECT value FROM installation_keys WHERE name = $1", "s", name);
}

static int make_key(struct tx *tx, const char *name, char **ret_hex)
{
	char hex[KEY_HEX_LEN + 1];
	int rc;

	id_hex(hex, INSTALLATION_KEY_LEN);
	rc = tx_exec(tx,
	    "INSERT INTO installation_keys(name, value, created_at) VALUES($1, $2, $3) ON CONFLICT DO NOTHING", "ssi",
	    name, hex, clock_wall_ms());
	/* Of two that came at once the first one's is the key. */
	return rc != OK ? rc : load_key(tx, name, ret_hex);
}

int installation_key(struct store *st, const char *name, unsigned char ret[INSTALLATION_KEY_LEN])
{
	AUTO(tx) tx = NULL;
	AUTO_STR hex = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = load_key(tx, name, &hex);
	if (rc == ERR_EMPTY) {
		tx_free(&tx);
		rc = tx_begin(st, TX_WRITE, &tx);
		if (rc == OK)
			rc = make_key(tx, name, &hex);
		if (rc == OK)
			rc = tx_commit(&tx);
	}
	return rc != OK ? rc : key_from_hex(name, hex != NULL ? hex : "", ret);
}

void token_free(struct token **tp)
{
	struct token *t = TAKE(*tp);

	if (t == NULL)
		return;
	free(t->key_id);
	free(t->key_type);
	free(t->agent_id);
	free(t->worker_id);
	free(t->claim_id);
	free(t);
}

/* API keys have no dots. */
bool token_has_form(const char *text)
{
	return strchr(text, '.') != NULL;
}

static char *sign(const unsigned char key[INSTALLATION_KEY_LEN], const char *text, size_t len)
{
	unsigned char mac[HMAC_SHA256_LEN];

	hmac_sha256(key, INSTALLATION_KEY_LEN, text, len, mac);
	return base64url_encode(mac, sizeof mac);
}

char *token_make(const unsigned char key[INSTALLATION_KEY_LEN], const struct token *t, int64_t now_ms)
{
	AUTO_JSON claims = json_object();
	AUTO_STR header = base64url_encode(HEADER, strlen(HEADER));
	AUTO_STR payload = NULL;
	AUTO_STR text = NULL;

	json_put(claims, "iss", ISSUER);
	json_put(claims, "aud", ISSUER);
	json_put(claims, "kind", kind_names[t->kind]);
	json_put_int(claims, "team", t->team_id);
	json_put(claims, "keyId", t->key_id);
	json_put(claims, "keyType", t->key_type);
	if (t->kind == TOKEN_USER)
		json_put_int(claims, "user", t->user_id);
	json_put(claims, "agent", t->agent_id);
	json_put(claims, "worker", t->worker_id);
	json_put(claims, "claimSeq", t->claim_id);
	json_put_int(claims, "iat", now_ms / 1000);
	json_put_int(claims, "exp", t->expires_at_ms / 1000);
	text = json_text(claims);
	payload = base64url_encode(text, strlen(text));
	AUTO_STR body = str_printf("%s.%s", header, payload);
	AUTO_STR signature = sign(key, body, strlen(body));
	char *out = str_printf("%s.%s", body, signature);

	ENSURE(strlen(out) <= TOKEN_MAX);
	return out;
}

static bool is_signed(const unsigned char key[INSTALLATION_KEY_LEN], const char *text, const char *last_dot)
{
	AUTO_STR wanted = sign(key, text, (size_t)(last_dot - text));

	return strlen(last_dot + 1) == SIGNATURE_B64_LEN && strlen(wanted) == SIGNATURE_B64_LEN &&
	       secret_equal(last_dot + 1, wanted, SIGNATURE_B64_LEN);
}

static bool copy_member(const json_t *claims, const char *name, char **ret)
{
	const char *v = json_string_value(json_object_get(claims, name));

	if (v == NULL || v[0] == '\0')
		return false;
	*ret = str_dup(v);
	return true;
}

static bool copy_number(const json_t *claims, const char *name, int64_t max, int64_t *ret)
{
	const json_t *v = json_object_get(claims, name);

	*ret = json_integer_value(v);
	return json_is_integer(v) && *ret >= 1 && *ret <= max;
}

static bool is_ours(const json_t *claims, const char *name)
{
	const char *v = json_string_value(json_object_get(claims, name));

	return v != NULL && strcmp(v, ISSUER) == 0;
}

/* It is signed by us, and still nothing is taken for granted: a later version may say other things. */
static bool read_claims(const json_t *claims, struct token *t)
{
	const char *kind = json_string_value(json_object_get(claims, "kind"));
	int64_t exp_s;
	size_t k = 0;

	while (kind != NULL && k < ARRAY_LEN(kind_names) && strcmp(kind, kind_names[k]) != 0)
		k++;
	if (kind == NULL || k == ARRAY_LEN(kind_names) || !is_ours(claims, "iss") || !is_ours(claims, "aud") ||
	    !copy_number(claims, "team", INT64_MAX, &t->team_id) ||
	    !copy_number(claims, "exp", INT64_MAX / 1000, &exp_s) || !copy_member(claims, "keyId", &t->key_id))
		return false;
	t->kind = (enum token_kind)k;
	t->expires_at_ms = exp_s * 1000;
	if (t->kind == TOKEN_USER)
		return copy_number(claims, "user", INT64_MAX, &t->user_id);
	if (t->kind == TOKEN_WORKER)
		return copy_member(claims, "keyType", &t->key_type);
	return copy_member(claims, "agent", &t->agent_id) && copy_member(claims, "worker", &t->worker_id) &&
	       copy_member(claims, "claimSeq", &t->claim_id);
}

int token_read(const unsigned char key[INSTALLATION_KEY_LEN], const char *text, struct token **ret)
{
	AUTO(token) t = NEW(struct token);
	AUTO_JSON claims = NULL;
	AUTO_STR payload = NULL;
	const char *first = strchr(text, '.'), *last = strrchr(text, '.');
	size_t len;

	if (first == NULL || strlen(text) > TOKEN_MAX || strchr(first + 1, '.') != last || !is_signed(key, text, last))
		return ERR_UNAUTHORIZED;
	if (base64url_decode(first + 1, (size_t)(last - first) - 1, &payload, &len) != OK ||
	    json_parse_strict(payload, len, &claims, NULL) != OK || !read_claims(claims, t))
		return ERR_UNAUTHORIZED;
	*ret = TAKE(t);
	return OK;
}
