/* An ID token and the provider's keys, both as somebody outside writes them: up to the first line end the keys, behind
 * it the token. None of these is signed, so none may pass. */
#include "base/mem.h"
#include "base/text.h"
#include "server/login/id_token.h"
#include "server/login/oidc.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct id_token_wants w = {
	    .issuer = "https://id.example", .client_id = "bullpen", .nonce = "nonce", .now_ms = INT64_C(1700000000000)};
	const uint8_t *nl = memchr(data, '\n', size);
	size_t keys_len = nl != NULL ? (size_t)(nl - data) : 0;
	AUTO_STR token = str_ndup((const char *)data + keys_len + (nl != NULL), size - keys_len - (nl != NULL));
	AUTO_JSON keys = NULL;
	AUTO_JSON claims = NULL;
	struct why why = {""};
	int rc;

	if (json_parse((const char *)data, keys_len, &keys, NULL) != OK)
		keys = json_object();
	rc = id_token_check(keys, token, &w, &claims, &why);
	ENSURE((rc == ERR_DENIED || rc == ERR_NOT_FOUND) && claims == NULL && why.text[0] != '\0');
	ENSURE(text_is_utf8(why.text, strlen(why.text)));
	/* A path of ours is never read as another host's. */
	if (oidc_is_path(token))
		ENSURE(token[0] == '/' && token[1] != '/' && token[1] != '\\');
	return 0;
}
