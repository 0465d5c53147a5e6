/* The room itself. */
#include "base/mem.h"
#include "base/text.h"
#include "server/mcp/remotes_priv.h"
#include <string.h>

int remotes_new(const struct remotes_config *cfg, struct remotes **ret, struct why *why)
{
	struct remotes *r = NEW(struct remotes);
	int rc = web_rules_new(cfg->internal_hosts, &r->rules, why);

	r->eras = (struct mcp_eras)MCP_ERAS_INIT;
	r->store = cfg->store;
	r->seal = cfg->seal;
	r->client_documents = cfg->client_documents;
	if (rc == OK && remotes_begin(r) != OK)
		rc = why_set(why, ERR_FULL, "there is no thread left");
	if (rc == OK)
		*ret = r;
	else
		remotes_free(&r);
	return rc;
}

void remotes_free(struct remotes **r)
{
	if (*r == NULL)
		return;
	remotes_end(*r);
	web_rules_free(&(*r)->rules);
	free(atomic_load(&(*r)->base));
	free(*r);
	*r = NULL;
}

void remotes_set_base(struct remotes *r, const char *url)
{
	size_t n = strlen(url);

	while (n > 0 && url[n - 1] == '/')
		n--;
	ENSURE(atomic_load(&r->base) == NULL);
	atomic_store(&r->base, str_ndup(url, n));
}

const char *remotes_base(const struct remotes *r)
{
	const char *base = atomic_load(&r->base);

	return base != NULL ? base : "";
}

const struct web_rules *remotes_rules(const struct remotes *r)
{
	return r->rules;
}

char *remotes_redirect_uri(const struct remotes *r)
{
	return str_printf("%s" CALLBACK_PATH, remotes_base(r));
}

json_t *remotes_client_document(const struct remotes *r)
{
	AUTO_STR id = str_printf("%s" CLIENT_DOCUMENT_PATH, remotes_base(r));
	AUTO_STR redirect_uri = remotes_redirect_uri(r);

	if (!r->client_documents || !text_has_prefix(remotes_base(r), "https://"))
		return NULL;
	return json_pack("{s:s, s:s, s:[s], s:[s,s], s:[s], s:s}", "client_id", id, "client_name", "Bullpen",
	    "redirect_uris", redirect_uri, "grant_types", "authorization_code", "refresh_token", "response_types",
	    "code", "token_endpoint_auth_method", "none");
}
