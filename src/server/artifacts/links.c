/* What is signed: links of clients and tokens of workers. The word in front keeps one from being taken for the other.
 */
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/artifacts/artifacts.h"
#include <string.h>

#define TOKEN_WORD "bau1"
#define TOKEN_PARTS 5
#define TOKEN_TEXT_MAX 600

static char *sign_text(const unsigned char key[ARTIFACT_KEY_LEN], const char *text)
{
	unsigned char mac[HMAC_SHA256_LEN];

	hmac_sha256(key, ARTIFACT_KEY_LEN, text, strlen(text), mac);
	return base64url_encode(mac, sizeof mac);
}

static bool is_signature(const unsigned char key[ARTIFACT_KEY_LEN], const char *text, const char *given)
{
	AUTO_STR wanted = sign_text(key, text);

	return strlen(given) == strlen(wanted) && secret_equal(given, wanted, strlen(wanted));
}

char *artifact_link_sign(const unsigned char key[ARTIFACT_KEY_LEN], const char *generation, int64_t expires_at_ms)
{
	AUTO_STR text = str_printf("link %s %lld", generation, (long long)expires_at_ms);

	return sign_text(key, text);
}

bool artifact_link_verify(const unsigned char key[ARTIFACT_KEY_LEN], const char *generation, const char *expires,
    const char *signature, int64_t now_ms)
{
	AUTO_STR text = NULL;
	int64_t until;

	if (text_parse_int(expires, 0, INT64_MAX, &until) != OK)
		return false;
	/* Of the number, not of its text: "0015" is no other link than "15". */
	text = str_printf("link %s %lld", generation, (long long)until);
	return is_signature(key, text, signature) && now_ms < until;
}

char *artifact_token_make(
    const unsigned char key[ARTIFACT_KEY_LEN], const char *agent_id, const char *claim_id, int64_t expires_at_ms)
{
	AUTO_STR text = str_printf("%s.%s.%s.%lld", TOKEN_WORD, agent_id, claim_id, (long long)expires_at_ms);
	AUTO_STR signature = sign_text(key, text);

	return str_printf("%s.%s", text, signature);
}

int artifact_token_read(const unsigned char key[ARTIFACT_KEY_LEN], const char *token, int64_t now_ms,
    char **ret_agent_id, char **ret_claim_id)
{
	AUTO_STR copy = NULL;
	AUTO_STR text = NULL;
	char *part[TOKEN_PARTS], *at;
	size_t n = 0;
	int64_t until;

	if (strlen(token) > TOKEN_TEXT_MAX)
		return ERR_UNAUTHORIZED;
	at = copy = str_dup(token);
	for (char *next = at; next != NULL && n < TOKEN_PARTS; at = next) {
		next = strchr(at, '.');
		part[n++] = at;
		if (next != NULL)
			*next++ = '\0';
		if (next != NULL && n == TOKEN_PARTS)
			return ERR_UNAUTHORIZED;
	}
	if (n != TOKEN_PARTS || strcmp(part[0], TOKEN_WORD) != 0 || text_parse_int(part[3], 0, INT64_MAX, &until) != OK)
		return ERR_UNAUTHORIZED;
	text = str_ndup(token, (size_t)(part[4] - copy) - 1);
	if (!is_signature(key, text, part[4]) || now_ms >= until)
		return ERR_UNAUTHORIZED;
	*ret_agent_id = str_dup(part[1]);
	*ret_claim_id = str_dup(part[2]);
	return OK;
}
