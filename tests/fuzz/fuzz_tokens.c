/* Tokens and cursors: the text of a stranger, and text that is signed with the right key, whatever it says. */
#include "base/id.h"
#include "base/mem.h"
#include "server/access/tokens.h"
#include "server/api/fleet_cursor.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const unsigned char KEY[INSTALLATION_KEY_LEN] = "fuzz";

/* Nothing that was not signed here is one. */
static void strange(const char *s)
{
	struct queue_cursor c = {0};
	struct token *t = NULL;

	ENSURE(token_read(KEY, s, &t) == ERR_UNAUTHORIZED && t == NULL);
	ENSURE(queue_cursor_read(KEY, s, &c) == ERR_INVALID && c.after.agent_id == NULL);
}

static bool fits(const struct token *t)
{
	size_t n = strlen(t->key_id);

	for (const char *const *s = (const char *const[]){t->key_type, t->agent_id, t->worker_id, t->claim_id, ""};
	     *s == NULL || **s != '\0'; s++)
		n += *s != NULL ? strlen(*s) : 0;
	return n < 60; /* each byte may be six when it is written again */
}

/* What can be read is complete, and is read again when it is written again. */
static void signed_token(const char *payload, size_t len)
{
	unsigned char mac[HMAC_SHA256_LEN];
	AUTO_STR p = base64url_encode(payload, len);
	AUTO_STR body = str_printf("e30.%s", p);
	AUTO(token) t = NULL;
	AUTO(token) again = NULL;

	hmac_sha256(KEY, sizeof KEY, body, strlen(body), mac);
	AUTO_STR s = base64url_encode(mac, sizeof mac);
	AUTO_STR text = str_printf("%s.%s", body, s);

	if (token_read(KEY, text, &t) != OK || !fits(t))
		return;
	ENSURE(t->key_id[0] != '\0' && t->team_id > 0 && t->expires_at_ms > 0);
	ENSURE((t->kind == TOKEN_SESSION) == (t->agent_id != NULL && t->worker_id != NULL && t->claim_id != NULL));
	ENSURE((t->kind == TOKEN_USER) == (t->user_id > 0));
	AUTO_STR made = token_make(KEY, t, 1000);

	ENSURE(token_read(KEY, made, &again) == OK && again->kind == t->kind && again->team_id == t->team_id &&
	       again->expires_at_ms == t->expires_at_ms && strcmp(again->key_id, t->key_id) == 0);
}

static void signed_cursor(const char *plain)
{
	unsigned char mac[HMAC_SHA256_LEN];
	char hex[2 * HMAC_SHA256_LEN + 1];
	struct queue_cursor c = {0}, again = {0};

	hmac_sha256(KEY, sizeof KEY, plain, strlen(plain), mac);
	for (size_t i = 0; i < sizeof mac; i++)
		snprintf(hex + 2 * i, 3, "%02x", mac[i]);
	AUTO_STR whole = str_printf("%s %s", plain, hex);
	AUTO_STR text = base64url_encode(whole, strlen(whole));

	if (queue_cursor_read(KEY, text, &c) != OK)
		return;
	ENSURE(c.team_id > 0 && c.seq >= 0 && c.list_ms >= 0 && strlen(c.filter) == CURSOR_FILTER_LEN - 1);
	AUTO_STR made = queue_cursor_make(KEY, &c);

	ENSURE(queue_cursor_read(KEY, made, &again) == OK && again.seq == c.seq && again.list_ms == c.list_ms);
	ENSURE((again.after.agent_id == NULL) == (c.after.agent_id == NULL));
	IGNORE(queue_cursor_is_over(&c, 1777622400000));
	queue_cursor_fini(&c);
	queue_cursor_fini(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	AUTO_STR s = str_ndup((const char *)data, size);
	struct queue_filter f = {0};
	char hash[CURSOR_FILTER_LEN];
	struct why why;

	id_init();
	strange(s);
	signed_token(s, strlen(s));
	signed_cursor(s);
	if (queue_filter_read(s, NULL, &f, &why) == OK)
		queue_filter_hash(&f, hash);
	queue_filter_fini(&f);
	return 0;
}
