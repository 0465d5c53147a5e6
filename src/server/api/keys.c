/* /v1/api-keys, /v1/service-accounts: who may ask for what. */
#include "server/access/keys.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/strbuf.h"
#include "server/access/accounts.h"
#include "server/api/api_priv.h"
#include "server/api/bodies.h"
#include <string.h>

#define DAY_MS ((int64_t)24 * 3600 * 1000)

#define SCHEMA_NEW_KEY                                                                                                 \
	"{" SCHEMA_STRICT                                                                                              \
	",\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":1},\"scopes\":{"         \
	"\"type\":\"array\",\"maxItems\":32,\"items\":" SCHEMA_STRING                                                  \
	",\"description\":\"absent: what keys of this kind have by default\"},\"expiresInDays\":{\"type\":"            \
	"\"integer\",\"minimum\":1,\"maximum\":3650,\"description\":\"absent: it does not expire\"}}}"

/* A person at the dashboard, or who manages the team. False: answered. */
static bool keys_are_hers(struct api_request *rq)
{
	if (rq->who->by == BY_BROWSER || principal_manages(rq->who))
		return true;
	api_error(rq, API_key_not_supported,
	    "keys are made and revoked in the dashboard, or with a key that has the "
	    "scope " SCOPE_TEAM_ADMIN);
	return false;
}

static bool is_in_browser(struct api_request *rq)
{
	if (rq->who->by == BY_BROWSER)
		return true;
	api_error(rq, API_key_not_supported, "only a person in the dashboard has API keys of her own to list and make");
	return false;
}

static void reply_keys(
    struct api_request *rq, const struct key_scope *whose, enum key_type type, const char *account_id)
{
	AUTO_JSON items = NULL;
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK && account_id != NULL)
		rc = account_find(tx, rq->who->team_id, account_id);
	if (rc == OK)
		rc = access_key_list(tx, rq->who->team_id, whose, false, &items);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_service_account_not_found, "there is no such service account");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200,
		    json_pack("{s:O, s:o}", "items", items, "scopes",
			access_scopes_offered(type, principal_manages(rq->who))));
}

static void get_keys(struct api_request *rq)
{
	bool team = strcmp(query_text_of(rq, "scope"), "team") == 0;

	if (team && !principal_manages(rq->who) && !principal_oversees(rq->who))
		api_error(rq, API_scope_required,
		    "only administrators and auditors see the keys of others: it lacks the scope %s", SCOPE_TEAM_ADMIN);
	else if (team || is_in_browser(rq))
		reply_keys(rq, &(struct key_scope){.user_id = team ? 0 : rq->who->user_id}, KEY_USER, NULL);
}

/* "a,b"; NULL: none were given. malloc'ed. */
static char *scopes_of_body(const struct api_request *rq)
{
	const json_t *all = json_object_get(rq->body, "scopes"), *one;
	struct strbuf b = STRBUF(4096);
	size_t i;

	if (all == NULL)
		return NULL;
	json_array_foreach((json_t *)all, i, one) strbuf_addf(&b, "%s%s", i > 0 ? "," : "", json_string_value(one));
	return strbuf_take(&b);
}

static void make_key(struct api_request *rq, struct key_request *want)
{
	const json_t *days = json_object_get(rq->body, "expiresInDays");
	const struct audit_by by = request_by(rq);
	AUTO_FINI(key_made) made = {0};
	struct why why = {0};
	int rc;

	want->name = json_string_value(json_object_get(rq->body, "name"));
	if (days != NULL)
		want->expires_at = clock_wall_ms() + json_integer_value(days) * DAY_MS;
	rc = access_key_check(want, &why);
	/* The command's option is called so; here it is a member. */
	if (rc == ERR_INVALID) {
		bool name = strncmp(why.text, "--name", 6) == 0;

		api_error(rq, API_validation_error, "'%s'%s%s", name ? "name" : "scopes", name ? "" : ": ",
		    name ? why.text + 6 : why.text);
		return;
	}
	rc = access_key_create(rq->api->cfg.store, &by, want, &made, &why);
	if (rc == ERR_NOT_FOUND) {
		api_error(rq, API_service_account_not_found, "%s", why.text);
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		log_info("key.made", "key=%s by=%s", made.id, log_quote(by.actor));
		api_reply(rq, 201, json_pack("{s:s, s:s}", "id", made.id, "key", made.key));
	}
}

static void post_key(struct api_request *rq)
{
	AUTO_STR scopes = scopes_of_body(rq);
	struct key_request want = {.type = KEY_USER, .scopes = scopes, .user_id = rq->who->user_id};

	if (!is_in_browser(rq))
		return;
	/* What she signed in with says what she may do, and a key of her making no more. */
	if (!principal_leads(rq->who) && !access_scopes_are_within(rq->who, scopes))
		api_error(rq, API_scope_required,
		    "'scopes': a key cannot be given more than you may do yourself; only administrators give the rest");
	else
		make_key(rq, &want);
}

static struct key_scope keys_meant(const struct api_request *rq)
{
	return (struct key_scope){.user_id = principal_manages(rq->who) ? 0 : rq->who->user_id};
}

static void delete_key(struct api_request *rq)
{
	const char *id = route_param(rq, "id");
	const struct audit_by by = request_by(rq);
	const struct key_scope whose = keys_meant(rq);
	int rc;

	if (!keys_are_hers(rq))
		return;
	/* A key in an address stands in logs: only its id names it here. */
	rc = strncmp(id, "key_", 4) == 0 ? access_key_revoke(rq->api->cfg.store, &by, &whose, id) : ERR_NOT_FOUND;
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_api_key_not_found, "there is no API key with this id");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s}", "id", id));
}

static void post_rotate(struct api_request *rq)
{
	const char *id = route_param(rq, "id");
	const struct audit_by by = request_by(rq);
	const struct key_scope whose = keys_meant(rq);
	AUTO_FINI(key_made) made = {0};
	int rc;

	if (!keys_are_hers(rq))
		return;
	rc = strncmp(id, "key_", 4) != 0 ? ERR_NOT_FOUND
					 : access_key_rotate(rq->api->cfg.store, &by, &whose, id,
					       principal_manages(rq->who) ? NULL : rq->who, &made);
	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_api_key_not_found, "there is no API key with this id that is valid");
	else if (rc == ERR_DENIED)
		api_error(rq, API_scope_required, "this key may do more than what you signed in with");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s, s:s}", "id", made.id, "key", made.key));
}

static void get_accounts(struct api_request *rq)
{
	AUTO(tx) tx = NULL;
	json_t *items = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = accounts_list(tx, rq->who->team_id, &items);
	if (rc == OK)
		api_reply(rq, 200, json_pack("{s:o}", "items", items));
	else
		api_refuse(rq, rc, NULL);
}

static void post_account(struct api_request *rq)
{
	const struct audit_by by = request_by(rq);
	AUTO_STR id = NULL;
	struct why why = {0};
	int rc =
	    account_create(rq->api->cfg.store, &by, json_string_value(json_object_get(rq->body, "name")), &id, &why);

	if (rc == ERR_INVALID)
		api_error(rq, API_validation_error, "%s", why.text);
	else if (rc == ERR_CONFLICT)
		api_error(rq, API_service_account_exists, "'name': there is a service account of that name already");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 201, json_pack("{s:s}", "id", id));
}

static void archive_account(struct api_request *rq)
{
	const char *id = route_param(rq, "id");
	const struct audit_by by = request_by(rq);
	int rc = account_archive(rq->api->cfg.store, &by, id);

	if (rc == ERR_NOT_FOUND)
		api_error(rq, API_service_account_not_found, "there is no such service account");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s}", "id", id));
}

static void get_account_keys(struct api_request *rq)
{
	const char *id = route_param(rq, "id");

	reply_keys(rq, &(struct key_scope){.account_id = id}, KEY_SERVICE_ACCOUNT, id);
}

static void post_account_key(struct api_request *rq)
{
	AUTO_STR scopes = scopes_of_body(rq);
	struct key_request want = {.type = KEY_SERVICE_ACCOUNT, .scopes = scopes, .account_id = route_param(rq, "id")};

	make_key(rq, &want);
}

static const struct route list_keys = {
    .name = "listApiKeys",
    .method = "GET",
    .path = "/v1/api-keys",
    .summary = "A person's own API keys, in the browser; for administrators also those of the team",
    .tag = "settings",
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{\"scope\":{\"type\":\"string\",\"enum\":[\"own\",\"team\"],"
	     "\"default\":\"own\"}}}",
    .responses = {{200, "{items, scopes: [{name, default}] that a key may be given}", .form = "ApiKeys"}},
    .handler = get_keys,
};
ROUTE(list_keys);

static const struct route create_key = {
    .name = "createApiKey",
    .method = "POST",
    .path = "/v1/api-keys",
    .summary = "Makes an API key for oneself, in the browser. It is shown this once",
    .tag = "settings",
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = SCHEMA_NEW_KEY,
    .responses = {{201, "{id, key}", .form = "NewApiKey"}},
    .handler = post_key,
};
ROUTE(create_key);

static const struct route revoke_key = {
    .name = "revokeApiKey",
    .method = "DELETE",
    .path = "/v1/api-keys/{id}",
    .summary = "Revokes one's own API key for good; administrators any of the team",
    .tag = "settings",
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such key"}},
    .handler = delete_key,
};
ROUTE(revoke_key);

static const struct route rotate_key = {
    .name = "rotateApiKey",
    .method = "POST",
    .path = "/v1/api-keys/{id}/rotate",
    .summary = "A new key in the place of this one, which is invalid at once",
    .tag = "settings",
    .rate = RATE_MUTATION,
    .responses = {{200, "{id, key} of the new one", .form = "NewApiKey"}, {404, "There is no such valid key"}},
    .handler = post_rotate,
};
ROUTE(rotate_key);

static const struct route list_accounts = {
    .name = "listServiceAccounts",
    .method = "GET",
    .path = "/v1/service-accounts",
    .summary = "The team's service accounts, archived ones too",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_READ,
    .responses = {{200, "{items}", .form = "ServiceAccounts"}},
    .handler = get_accounts,
};
ROUTE(list_accounts);

static const struct route create_account = {
    .name = "createServiceAccount",
    .method = "POST",
    .path = "/v1/service-accounts",
    .summary = "Makes a service account, without a key yet",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema =
	"{" SCHEMA_STRICT ",\"required\":[\"name\"],\"properties\":{\"name\":{\"type\":\"string\",\"minLength\":1}}}",
    .responses = {{201, "{id}", .form = "Id"}, {409, "There is one of that name"}},
    .handler = post_account,
};
ROUTE(create_account);

static const struct route archive_account_route = {
    .name = "archiveServiceAccount",
    .method = "POST",
    .path = "/v1/service-accounts/{id}/archive",
    .summary = "Revokes all its keys for good; the record stays",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such service account"}},
    .handler = archive_account,
};
ROUTE(archive_account_route);

static const struct route list_account_keys = {
    .name = "listServiceAccountKeys",
    .method = "GET",
    .path = "/v1/service-accounts/{id}/keys",
    .summary = "The keys of a service account, revoked ones too",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_READ,
    .responses = {{200, "as listApiKeys", .form = "ApiKeys"}, {404, "There is no such service account"}},
    .handler = get_account_keys,
};
ROUTE(list_account_keys);

static const struct route create_account_key = {
    .name = "createServiceAccountKey",
    .method = "POST",
    .path = "/v1/service-accounts/{id}/keys",
    .summary = "Makes a key of a service account. It is shown this once",
    .tag = "settings",
    .scope = SCOPE_TEAM_ADMIN,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = SCHEMA_NEW_KEY,
    .responses = {{201, "{id, key}", .form = "NewApiKey"}, {404, "There is no such service account"}},
    .handler = post_account_key,
};
ROUTE(create_account_key);
