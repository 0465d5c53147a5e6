/* Linear's GraphQL API: linear.app/developers/graphql, and "Developing the agent interaction". */
#include "base/clock.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/table.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/triggers/linear_priv.h"
#include <string.h>
#include <time.h>

#define ANSWER_MAX ((size_t)2 * 1024 * 1024)
#define WORDS_MAX 300
#define NAME_BYTES 100
#define QUIET_MS 30000 /* to be left alone for so long, if Linear does not say it */
#define WAIT_MAX_MS 5000

static int read_texts(const struct table *t, struct linear *l)
{
	const char *api = "https://api.linear.app/graphql", *token = "https://api.linear.app/oauth/token", *repo = NULL,
		   *ca = NULL, *id = NULL;
	int rc = table_text(t, "api_url", &api);

	if (rc == OK)
		rc = table_text(t, "token_url", &token);
	if (rc == OK)
		rc = table_text(t, "ca_file", &ca);
	if (rc == OK)
		rc = table_text(t, "default_repo", &repo);
	if (rc == OK)
		rc = table_text(t, "client_id", &id);
	if (rc != OK)
		return rc;
	if (!text_has_prefix(api, "https://") && !text_has_prefix(api, "http://"))
		return table_wrong(t, "api_url", "a URL like https://api.linear.app/graphql");
	if (!text_has_prefix(token, "https://") && !text_has_prefix(token, "http://"))
		return table_wrong(t, "token_url", "a URL like https://api.linear.app/oauth/token");
	str_set(&l->api_url, api);
	str_set(&l->client.token_url, token);
	str_set(&l->client.ca_file, ca);
	str_set(&l->default_repo, repo);
	str_set(&l->client.id, id);
	return OK;
}

static int read_secrets(const struct table *t, struct linear *l)
{
	int rc = table_secret(t, "webhook_secret_file", &l->webhook_secret);

	if (rc == OK)
		rc = table_secret(t, "token_file", &l->token);
	if (rc == OK)
		rc = table_secret(t, "client_secret_file", &l->client.secret);
	if (rc == OK)
		rc = table_secret(t, "refresh_token_file", &l->client.refresh_token);
	if (rc != OK)
		return rc;
	if (l->webhook_secret == NULL)
		return why_set(t->why, ERR_INVALID, "linear: webhook_secret_file is missing");
	if (l->token == NULL && l->client.id == NULL)
		return why_set(t->why, ERR_INVALID,
		    "linear: token_file is missing, or client_id and client_secret_file for a token that is renewed");
	if (l->token != NULL && (l->client.id != NULL || l->client.refresh_token != NULL))
		return why_set(t->why, ERR_INVALID,
		    "linear: token_file and client_id exclude each other: the one is as it is, the other renewed");
	return l->client.id != NULL && l->client.secret == NULL
		   ? why_set(t->why, ERR_INVALID, "linear: client_secret_file is missing, which belongs to client_id")
		   : OK;
}

int linear_new(const json_t *json, struct linear **ret, struct why *why)
{
	static const char *const keys[] = {"webhook_secret_file", "token_file", "api_url", "ca_file", "default_repo",
	    "move_issues", "comments", "client_id", "client_secret_file", "refresh_token_file", "token_url", NULL};
	const struct table t = {.json = json, .where = "linear", .why = why};
	struct linear *l;
	int rc;

	if (json == NULL)
		return OK;
	l = NEW(struct linear);
	l->moves_issues = l->hears_comments = true;
	l->pool = http_client_pool_new(4, 30000);
	pthread_mutex_init(&l->mtx, NULL);
	rc = table_keys(&t, keys);
	if (rc == OK)
		rc = read_texts(&t, l);
	if (rc == OK)
		rc = table_bool(&t, "move_issues", &l->moves_issues);
	if (rc == OK)
		rc = table_bool(&t, "comments", &l->hears_comments);
	if (rc == OK)
		rc = read_secrets(&t, l);
	if (rc != OK)
		linear_free(&l);
	else
		*ret = l;
	return rc;
}

void linear_use(struct linear *l, struct store *store, const struct seal *seal)
{
	if (l == NULL)
		return;
	l->store = store;
	l->seal = seal;
}

void linear_free(struct linear **lp)
{
	struct linear *l = TAKE(*lp);

	if (l == NULL)
		return;
	str_wipe(&l->webhook_secret);
	str_wipe(&l->token);
	str_wipe(&l->client.secret);
	str_wipe(&l->client.refresh_token);
	http_client_pool_free(&l->pool);
	pthread_mutex_destroy(&l->mtx);
	char **const texts[] = {&l->api_url, &l->default_repo, &l->client.id, &l->client.token_url, &l->client.ca_file,
	    &l->self_id, &l->self_name, &l->self_display};

	for (size_t i = 0; i < ARRAY_LEN(texts); i++)
		str_free(texts[i]);
	free(l);
}

static void keep_quiet(struct linear *l, const char *retry_after)
{
	int64_t n = 0, ms = QUIET_MS;

	if (retry_after != NULL && text_parse_int(retry_after, 0, 3600, &n) == OK)
		ms = n * 1000;
	atomic_store(&l->quiet_until_ms, clock_mono_ms() + ms);
}

/* A limit that is over soon is waited for; a longer one is left to who tries again. */
static int wait_for_quiet(struct linear *l, int64_t deadline_mono_ms, struct why *why)
{
	const struct timespec pause = {.tv_nsec = 50 * 1000000L};
	int64_t until = atomic_load(&l->quiet_until_ms);

	if (until >= deadline_mono_ms || until > clock_mono_ms() + WAIT_MAX_MS)
		return why_set(why, ERR_FULL, "Linear limits its requests");
	while (clock_mono_ms() < until)
		nanosleep(&pause, NULL); /* interval of polling */
	return OK;
}

/* Refusals come with 200, too: the first of "errors". */
static int judge(struct linear *l, const struct http_client_response *resp, const json_t *answer, struct why *why)
{
	const json_t *error = json_array_get(json_object_get(answer, "errors"), 0);
	const char *code = json_word(json_object_get(error, "extensions"), "code");
	AUTO_STR words = text_line(json_word(error, "message"), WORDS_MAX);

	if (resp->status == 429 || strcmp(code, "RATELIMITED") == 0) {
		keep_quiet(l, resp->retry_after);
		return why_set(why, ERR_FULL, "Linear limits its requests");
	}
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

static int ask_once(
    struct linear *l, const char *token, const char *text, int64_t deadline_mono_ms, json_t **ret_data, struct why *why)
{
	AUTO_STR auth = str_printf("Bearer %s", token);
	const struct http_header headers[] = {
	    {"content-type", "application/json"}, {"authorization", auth}, {"user-agent", "bullpen"}};
	const struct http_client_request req = {.method = "POST",
	    .url = l->api_url,
	    .pool = l->pool,
	    .ca_file = l->client.ca_file,
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
		rc = judge(l, &resp, answer, why);
	}
	if (rc == OK)
		*ret_data = json_incref(json_object_get(answer, "data"));
	http_client_response_fini(&resp);
	explicit_bzero(auth, strlen(auth));
	return rc;
}

/* A token that Linear does not take any more is renewed, once; a limit that is over soon is waited for. */
int linear_ask(struct linear *l, const char *query, json_t *variables, int64_t deadline_mono_ms, json_t **ret_data,
    struct why *why)
{
	AUTO_JSON body = json_pack("{s:s, s:o}", "query", query, "variables", variables);
	AUTO_STR text = json_text(body);
	int64_t version = LINEAR_NONE_REJECTED, rejected = LINEAR_NONE_REJECTED;
	int rc;

	for (int renewed = 0;;) {
		char *token = NULL;
		struct why refused = {0};

		rc = wait_for_quiet(l, deadline_mono_ms, why);
		if (rc != OK)
			return rc;
		rc = linear_token(l, rejected, deadline_mono_ms, &token, &version, &refused);
		if (rc == OK)
			rc = ask_once(l, token, text, deadline_mono_ms, ret_data, why);
		else if (renewed == 0)
			why_set(why, rc, "%s", refused.text[0] != '\0' ? refused.text : err_text(rc));
		str_wipe(&token);
		if (rc == ERR_UNAUTHORIZED && l->token == NULL && renewed++ == 0)
			rejected = version;
		else if (rc != ERR_FULL)
			return rc;
	}
}

int linear_self(
    struct linear *l, int64_t deadline_mono_ms, char **ret_id, char **ret_name, char **ret_display, struct why *why)
{
	AUTO_JSON data = NULL;
	bool known;
	int rc = OK;

	pthread_mutex_lock(&l->mtx);
	known = l->self_id != NULL;
	pthread_mutex_unlock(&l->mtx);
	if (!known)
		rc = linear_ask(
		    l, "query { viewer { id name displayName } }", json_object(), deadline_mono_ms, &data, why);
	if (rc != OK)
		return rc;
	pthread_mutex_lock(&l->mtx);
	if (l->self_id == NULL) {
		const json_t *viewer = json_object_get(data, "viewer");

		l->self_id = str_dup(json_word(viewer, "id"));
		l->self_name = text_line(json_word(viewer, "name"), NAME_BYTES);
		l->self_display = text_line(json_word(viewer, "displayName"), NAME_BYTES);
	}
	*ret_id = str_dup(l->self_id);
	*ret_name = str_dup(l->self_name);
	*ret_display = str_dup(l->self_display);
	pthread_mutex_unlock(&l->mtx);
	return OK;
}

int linear_activity(struct linear *l, const char *session, const char *id, const char *type, const char *body,
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
