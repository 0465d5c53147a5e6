/* base64url of "1 TEAM SEQ LIST_MS FILTER [QUEUED_AT AGENT] MAC". */
#include "server/api/fleet_cursor.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <string.h>

#define TEXT_MAX 400
#define WORDS_MAX 8
#define MAC_HEX_LEN (HMAC_SHA256_LEN * 2)

void queue_cursor_fini(struct queue_cursor *c)
{
	str_free(&c->after.agent_id);
}

/* By what is compared, not by how it was written. */
void queue_filter_hash(const struct queue_filter *f, char ret[CURSOR_FILTER_LEN])
{
	AUTO_STR host = NULL;
	AUTO_STR label = f->repo != NULL ? repo_url_label(f->repo, &host) : NULL;
	char hex[SHA256_HEX_LEN];

	if (label != NULL)
		id_lower(label);
	AUTO_STR plain = str_printf(
	    "%s\n%s\n%s", label != NULL ? label : "", host != NULL ? host : "", f->pool != NULL ? f->pool : "");

	sha256_hex(plain, strlen(plain), hex);
	snprintf(ret, CURSOR_FILTER_LEN, "%.*s", CURSOR_FILTER_LEN - 1, hex);
}

static void mac_hex(
    const unsigned char key[INSTALLATION_KEY_LEN], const char *text, size_t len, char ret[MAC_HEX_LEN + 1])
{
	unsigned char mac[HMAC_SHA256_LEN];

	hmac_sha256(key, INSTALLATION_KEY_LEN, text, len, mac);
	for (size_t i = 0; i < sizeof mac; i++)
		snprintf(ret + 2 * i, 3, "%02x", mac[i]);
}

char *queue_cursor_make(const unsigned char key[INSTALLATION_KEY_LEN], const struct queue_cursor *c)
{
	struct strbuf b = STRBUF(TEXT_MAX);
	char mac[MAC_HEX_LEN + 1];
	char *out;

	strbuf_addf(
	    &b, "1 %lld %lld %lld %s", (long long)c->team_id, (long long)c->seq, (long long)c->list_ms, c->filter);
	if (c->after.agent_id != NULL)
		strbuf_addf(&b, " %lld %s", (long long)c->after.queued_at_ms, c->after.agent_id);
	mac_hex(key, b.data, b.len, mac);
	strbuf_addf(&b, " %s", mac);
	ENSURE(!b.overflowed);
	out = base64url_encode(b.data, b.len);
	strbuf_fini(&b);
	return out;
}

/* Cuts the text at its blanks. */
static size_t split_words(char *text, char *words[WORDS_MAX])
{
	size_t n = 0;

	while (n < WORDS_MAX) {
		char *blank = strchr(text, ' ');

		words[n++] = text;
		if (blank == NULL)
			return n;
		*blank = '\0';
		text = blank + 1;
	}
	return 0;
}

static bool read_words(char *words[WORDS_MAX], size_t n, struct queue_cursor *c)
{
	if ((n != 5 && n != 7) || strcmp(words[0], "1") != 0 || strlen(words[4]) != CURSOR_FILTER_LEN - 1 ||
	    text_parse_int(words[1], 1, INT64_MAX, &c->team_id) != OK ||
	    text_parse_int(words[2], 0, INT64_MAX - 1, &c->seq) != OK ||
	    text_parse_int(words[3], 0, INT64_MAX / 2, &c->list_ms) != OK)
		return false;
	memcpy(c->filter, words[4], CURSOR_FILTER_LEN);
	if (n == 5)
		return true;
	if (text_parse_int(words[5], 0, INT64_MAX, &c->after.queued_at_ms) != OK || !id_is(words[6], "bc-"))
		return false;
	c->after.agent_id = str_dup(words[6]);
	return true;
}

int queue_cursor_read(const unsigned char key[INSTALLATION_KEY_LEN], const char *text, struct queue_cursor *ret)
{
	AUTO_STR plain = NULL;
	struct queue_cursor c = {0};
	char *words[WORDS_MAX], *last, mac[MAC_HEX_LEN + 1];
	size_t len;

	if (strlen(text) > 2 * TEXT_MAX || base64url_decode(text, strlen(text), &plain, &len) != OK ||
	    strlen(plain) != len || (last = strrchr(plain, ' ')) == NULL || strlen(last + 1) != MAC_HEX_LEN)
		return ERR_INVALID;
	mac_hex(key, plain, (size_t)(last - plain), mac);
	if (!secret_equal(mac, last + 1, MAC_HEX_LEN))
		return ERR_INVALID;
	*last = '\0';
	if (!read_words(words, split_words(plain, words), &c))
		return ERR_INVALID;
	*ret = c;
	return OK;
}

bool queue_cursor_is_over(const struct queue_cursor *c, int64_t now_ms)
{
	return now_ms >= c->list_ms + CURSOR_LIFE_MS || c->list_ms > now_ms + CURSOR_LIFE_MS;
}
