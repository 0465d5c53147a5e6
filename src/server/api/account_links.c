/* /v1/account-links: a person takes an account of another service as hers, by the link that she got there. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/access/linked.h"
#include "server/api/api_priv.h"
#include <string.h>

/* `look` changes nothing: a person sees whose account it is before she takes it. */
static int take_or_look(struct api_request *rq, struct tx **tx, char **ret_surface, char **ret_login)
{
	const char *token = json_word(rq->body, "token");
	const struct audit_by by = request_by(rq);
	int rc;

	if (json_is_true(json_object_get(rq->body, "look")))
		return link_look(*tx, token, clock_wall_ms(), ret_surface, ret_login);
	rc = link_take(*tx, &by, token, rq->who->user_id, clock_wall_ms(), ret_surface, ret_login);
	return rc == OK ? tx_commit(tx) : rc;
}

static void post_account_link(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	AUTO_STR surface = NULL;
	AUTO_STR login = NULL;
	int rc;

	if (rq->who->user_id == 0) {
		api_error(rq, API_user_required, "an account belongs to a person: a service account has none");
		return;
	}
	rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);
	if (rc == OK)
		rc = take_or_look(rq, &tx, &surface, &login);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_not_found,
		    "this link was used, or is older than ten minutes: ask for another one where you got it");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s, s:s}", "surface", surface, "login", login));
}

static const struct route account_link_route = {
    .name = "takeAccountLink",
    .method = "POST",
    .path = "/v1/account-links",
    .summary = "Connects an account of another service with the caller, once; or says which one it is",
    .tag = "triggers",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{\"type\":\"object\",\"required\":[\"token\"],\"additionalProperties\":false,\"properties\":{"
	"\"token\":{\"type\":\"string\",\"minLength\":1,\"maxLength\":200},\"look\":{\"type\":\"boolean\"}}}",
    .responses = {{200, "The account", NULL, "AccountLink"}, {404, "The link was used or is over"}},
    .handler = post_account_link,
};
ROUTE(account_link_route);
