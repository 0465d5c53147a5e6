/* login/id_token.h: whether an ID token (OpenID Connect Core 1.0, 3.1.3.7) is the provider's, for us, for this sign-in,
 * and of now. Thread: any; no state. */
#pragma once
#include "base/json.h"

struct id_token_wants {
	const char *issuer, *client_id, *nonce;
	int64_t now_ms;
};
/* `jwks`: the provider's keys, {"keys": […]}. RS256 and ES256, nothing else. *ret: the claims. ERR_NOT_FOUND with
 * `why`: no key of these has signed it, newer ones may have; ERR_DENIED with `why`. `why` repeats nothing of the token.
 */
int id_token_check(
    const json_t *jwks, const char *token, const struct id_token_wants *w, json_t **ret, struct why *why) MUST_USE;
