/* login/provider.h: what is known of the OpenID provider: its document and its keys, asked for when needed and kept for
 * an hour. Thread: any; blocks for some ten seconds at most. */
#pragma once
#include "server/oauth/oauth.h"

struct provider;

/* `issuer` lives as long as the provider. Nothing is asked yet. ERR_INVALID with `why`. */
int provider_new(const char *issuer, struct provider **ret, struct why *why) MUST_USE;
void provider_free(struct provider **p);
const struct web_rules *provider_rules(const struct provider *p);
/* Its document. While it does not answer, it is asked once in five seconds at most. */
int provider_load(struct provider *p, json_t **ret_doc, struct why *why) MUST_USE;
/* Its keys. `fresh`: not those that are kept. *ret_kept (may be NULL): they were kept ones. */
int provider_keys(
    struct provider *p, const json_t *doc, bool fresh, json_t **ret, bool *ret_kept, struct why *why) MUST_USE;
/* What is kept of the document, without asking; NULL: nothing. New reference. */
json_t *provider_kept(struct provider *p);
