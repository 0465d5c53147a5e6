/* Linear's GraphQL API: linear.app/developers/graphql, and "Developing the agent interaction". */
#include "base/clock.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/table.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/triggers/linear_priv.h"
#include <string.h>

#define ANSWER_MAX ((size_t)2 * 1024 * 1024)
#define WORDS_MAX 300

int linear_new(const json_t *json, struct linear **ret, struct why *why)
{
	static const char *const keys[] = {
	    "webhook_secret_file", "token_file", "api_url", "ca_file", "default_repo", "move_issues", NULL};
	const struct table t = {.json = json, .where = "linear", .why = why};
	const char *api = "https://api.linear.app/graphql", *repo = NULL, *ca = NULL;
	struct linear *l;
	int rc;

	if (json == NULL)
		return OK;
	l = NEW(struct linear);
	l->moves_issues = true;
	l->pool = http_client_pool_new(4, 30000);
	rc = table_keys(&t, keys);
	if (rc == OK)
		rc = table_text(&t, "api_url", &api);
	if (rc == OK)
		rc = table_text(&t, "ca_file", &ca);
	if (rc == OK)
		rc = table_text(&t, "default_repo", &repo);
	if (rc == OK)
		rc = table_bool(&t, "move_issues", &l->moves_issues);
	if (rc == OK)
		rc = table_secret(&t, "webhook_secret_file", &l->webhook_secret);
	if (rc == OK)
		rc = table_secret(&t, "token_file", &l->token);
	if (rc == OK && (l->webhook_secret == NULL || l->token == NULL))
		rc = why_set(
		    why, ERR_INVALID, "linear: %s is missing", l->token == NULL ? "token_file" : "webhook_secret_file");
	if (rc == OK && !text_has_prefix(api, "https://") && !text_has_prefix(api, "http://"))
		rc = table_wrong(&t, "api_url", "a URL like https://api.linear.app/graphql");
	str_set(&l->api_url, api);
	str_set(&l->ca_file, ca);
	str_set(&l->default_repo, repo);
	if (rc != OK)
		linear_free(&l);
	else
		*ret = l;
	return rc;
}

void linear_free(struct linear **lp)
{
	struct linear *l = TAKE(*lp);

	if (l == NULL)
		return;
	str_wipe(&l->webhook_secret);
	str_wipe(&l->token);
	http_client_pool_free(&l->pool);
	free(l->api_url);
	free(l->ca_file);
	free(l->default_repo);
	free(l);
}

/* Refusals come with 200, too: the first of "errors". */
static int judge(const struct http_client_response *resp, const json_t *answer, struct why *why)
{
	const json_t *error = json_array_get(json_object_get(answer, "errors"), 0);
	const char *code = json_word(json_object_get(error, "extensions"), "code");
	AUTO_STR words = text_line(json_word(error, "message"), WORDS_MAX);

	if (resp->status == 429 || strcmp(code, "RATELIMITED") == 0)
		return why_set(why, ERR_FULL, "Linear limits its requests");
	if (resp->status == 401 || strcmp(code, "AUTHENTICATION_ERROR") == 0)
		return why_set(why, ERR_UNAUTHORIZED, "Linear does not take the token: %s", words);
	if (resp->status / 100 == 5)
		return why_set(why, ERR_NET, "Linear answered %d", resp->status);
	if (resp->status / 100 != 2 || error != NULL)
		return why_set(why, ERR_INVALID, "Linear answered %d: %s", resp->status, words);
	return json_is_object(json_object_get(answer, "data"))
		   ? OK
		   : why_set(why, ERR_PROTOCOL, "Linear answered without data");
}

int linear_ask(const struct linear *l, const char *query, json_t *variables, int64_t deadline_mono_ms,
    json_t **ret_data, struct why *why)
{
	AUTO_JSON body = json_pack("{s:s, s:o}", "query", query, "variables", variables);
	AUTO_STR text = json_text(body);
	AUTO_STR auth = str_printf("Bearer %s", l->token);
	const struct http_header headers[] = {
	    {"content-type", "application/json"}, {"authorization", auth}, {"user-agent", "bullpen"}};
	const struct http_client_request req = {.method = "POST",
	    .url = l->api_url,
	    .pool = l->pool,
	    .ca_file = l->ca_file,
	    .ca_setting = "linear.ca_file",
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .body = text,
	    .body_len = strlen(text),
	    .timeout_ms = MAX(deadline_mono_ms - clock_mono_ms(), (int64_t)1),
	    .max_body = ANSWER_MAX};
	struct http_client_response resp = {0};
	AUTO_JSON answer = NULL;
	int rc = http_client_do(&req, &resp, why);

	if (rc == OK) {
		IGNORE(json_parse(strbuf_str(&resp.body), resp.body.len, &answer, NULL));
		rc = judge(&resp, answer, why);
	}
	if (rc == OK)
		*ret_data = json_incref(json_object_get(answer, "data"));
	http_client_response_fini(&resp);
	explicit_bzero(auth, strlen(auth));
	return rc;
}

int linear_activity(const struct linear *l, const char *session, const char *id, const char *type, const char *body,
    bool ephemeral, int64_t deadline_mono_ms, struct why *why)
{
	AUTO_JSON data = NULL;
	json_t *input = json_pack(
	    "{s:s, s:s, s:{s:s, s:s}}", "agentSessionId", session, "id", id, "content", "type", type, "body", body);
	int rc;

	if (ephemeral)
		json_put_bool(input, "ephemeral", true);
	rc = linear_ask(l,
	    "mutation($input: AgentActivityCreateInput!) { agentActivityCreate(input: $input) { success agentActivity "
	    "{ id } } }",
	    json_pack("{s:o}", "input", input), deadline_mono_ms, &data, why);
	/* The id is taken: it was said before. */
	if (rc == ERR_INVALID && strcasestr(why->text, "already") != NULL)
		return OK;
	return rc;
}
