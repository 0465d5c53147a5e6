/* Slack's Web API: one request, and what its answer means. It answers 200 also to what it refuses: {ok: false, error}.
 */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/seal.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/triggers/slack_priv.h"
#include <string.h>
#include <time.h>

#define ANSWER_MAX ((size_t)8 * 1024 * 1024)
#define QUIET_MS 30000 /* to be left alone for so long, if Slack does not say it */
#define WAIT_MAX_MS 5000 /* a longer limit is left to who tries again: the thread has others to serve */
#define NAMES_MAX 2000
#define NAMES_ASKED_MAX 50 /* in one call */
#define NAME_BYTES 200

METRIC_COUNTER(
    requests, "bullpen_slack_requests_total", "Requests to Slack's Web API, by method and result.", "method", "result");

static bool is_stopped(void *ctx)
{
	struct slack *s = OBJ_FROM(slack, ctx, SLACK_MAGIC);

	return atomic_load(&s->stopped);
}

static bool is_one_of(const char *word, const char *const *list)
{
	for (; *list != NULL; list++)
		if (strcmp(*list, word) == 0)
			return true;
	return false;
}

static int code_of(const char *error)
{
	static const char *const broken[] = {"invalid_auth", "not_authed", "token_revoked", "token_expired",
	    "account_inactive", "org_login_required", NULL};
	static const char *const later[] = {
	    "internal_error", "fatal_error", "service_unavailable", "request_timeout", NULL};
	static const char *const missing[] = {
	    "channel_not_found", "is_archived", "message_not_found", "user_not_found", "thread_not_found", NULL};

	return is_one_of(error, broken)		   ? ERR_UNAUTHORIZED
	       : is_one_of(error, later)	   ? ERR_NET
	       : is_one_of(error, missing)	   ? ERR_NOT_FOUND
	       : strcmp(error, "ratelimited") == 0 ? ERR_FULL
						   : ERR_INVALID;
}

static void keep_quiet(struct slack *s, const char *retry_after)
{
	int64_t n = 0, ms = QUIET_MS;

	if (retry_after != NULL && text_parse_int(retry_after, 0, 3600, &n) == OK)
		ms = n * 1000;
	atomic_store(&s->quiet_until_ms, clock_mono_ms() + ms);
}

/* False: the call has no time for that. */
static bool wait_for_quiet(struct slack_call *c)
{
	int64_t until = atomic_load(&c->slack->quiet_until_ms), now = clock_mono_ms();

	c->retry_ms = MAX(until - now, 0);
	if (until >= c->deadline_mono_ms || until > clock_mono_ms() + WAIT_MAX_MS)
		return false;
	while ((now = clock_mono_ms()) < until && !is_stopped(c->slack)) {
		const struct timespec t = {.tv_nsec = MIN(until - now, (int64_t)50) * 1000000};

		nanosleep(&t, NULL); /* interval of polling */
	}
	return true;
}

static int judge(struct slack_call *c, const char *method, const struct http_client_response *r, const json_t *j)
{
	int code;

	if (r->status == 429) {
		keep_quiet(c->slack, r->retry_after);
		return why_set(&c->why, ERR_FULL, "Slack limits its requests");
	}
	if (r->status / 100 != 2 || !json_is_object(j))
		return why_set(&c->why, r->status / 100 == 5 || r->status / 100 == 2 ? ERR_NET : ERR_INVALID,
		    "Slack answered %d to %s", r->status, method);
	if (json_is_true(json_object_get(j, "ok")))
		return OK;
	AUTO_STR word = text_line(json_word(j, "error"), sizeof c->words - 1);

	snprintf(c->words, sizeof c->words, "%s", word);
	c->error = c->words;
	code = code_of(c->words);
	if (code == ERR_FULL)
		keep_quiet(c->slack, r->retry_after);
	if (code == ERR_UNAUTHORIZED)
		log_error("slack.broken",
		    "method=%s error=%s hint=\"the app was removed or its token revoked: install it again and set "
		    "slack.bot_token_file\"",
		    method, log_quote(c->words));
	return why_set(&c->why, code, "Slack refused %s: %s", method, c->words);
}

static int ask_once(struct slack_call *c, const char *token, const char *http_method, const char *method,
    const char *url, const char *body, json_t **ret)
{
	AUTO_JSON json = NULL;
	char *auth = str_printf("Bearer %s", token);
	const struct http_header headers[] = {
	    {"authorization", auth}, {"content-type", "application/json; charset=utf-8"}, {"user-agent", "bullpen"}};
	struct http_client_response resp = {0};
	const struct http_client_request req = {.method = http_method,
	    .url = url,
	    .pool = c->slack->pool,
	    .ca_file = c->slack->ca_file,
	    .ca_setting = "slack.ca_file",
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .body = body,
	    .body_len = body != NULL ? strlen(body) : 0,
	    .timeout_ms = MAX(c->deadline_mono_ms - clock_mono_ms(), (int64_t)1),
	    .max_body = ANSWER_MAX,
	    .cancelled = is_stopped,
	    .ctx = c->slack};
	int rc = http_client_do(&req, &resp, &c->why);

	c->error = NULL;
	str_wipe(&auth);
	if (rc == OK) {
		IGNORE(json_parse(strbuf_str(&resp.body), resp.body.len, &json, NULL));
		rc = judge(c, method, &resp, json);
	}
	http_client_response_fini(&resp);
	metric_add(&requests, 1, method, rc == OK ? "ok" : err_name(rc));
	if (rc == OK && ret != NULL)
		*ret = TAKE(json);
	return rc;
}

/* A limit that is over within the call's time is waited for. */
static int ask(struct slack_call *c, const char *token, const char *http_method, const char *method, const char *query,
    const char *body, json_t **ret)
{
	AUTO_STR url = str_printf("%s/%s%s%s", c->slack->api_url, method, query[0] != '\0' ? "?" : "", query);
	int rc;

	do {
		if (!wait_for_quiet(c))
			return why_set(&c->why, ERR_FULL, "Slack limits its requests, and there was no time to wait");
		if (clock_mono_ms() >= c->deadline_mono_ms)
			return why_set(&c->why, ERR_TIMEOUT, "there was no time left to ask Slack");
		rc = ask_once(c, token, http_method, method, url, body, ret);
	} while (rc == ERR_FULL && !is_stopped(c->slack));
	return rc;
}

/* With the token of the workspace. */
static int ask_there(struct slack_call *c, const char *http_method, const char *method, const char *query,
    const char *body, json_t **ret)
{
	char *token = NULL;
	int rc = slack_token_of(c, &token);

	c->error = NULL;
	if (rc == OK)
		rc = ask(c, token, http_method, method, query, body, ret);
	str_wipe(&token);
	return rc;
}

int slack_post(struct slack_call *c, const char *method, const json_t *args, json_t **ret)
{
	AUTO_STR body = json_text(args);

	return ask_there(c, "POST", method, "", body, ret);
}

int slack_get(struct slack_call *c, const char *method, const char *query, json_t **ret)
{
	return ask_there(c, "GET", method, query, NULL, ret);
}

int slack_open_socket(struct slack_call *c, char **ret_url)
{
	AUTO_JSON answer = NULL;
	int rc = ask(c, c->slack->app_token, "POST", "apps.connections.open", "", "{}", &answer);

	if (rc != OK)
		return rc;
	*ret_url = str_dup(json_word(answer, "url"));
	return OK;
}

int slack_download(struct slack_call *c, const char *url, size_t max, struct strbuf *ret)
{
	char *auth = NULL, *token = NULL;
	struct http_client_response resp = {0};
	struct http_header header = {"authorization", NULL};
	struct http_client_request req = {.method = "GET",
	    .url = url,
	    .ca_file = c->slack->ca_file,
	    .ca_setting = "slack.ca_file",
	    .headers = &header,
	    .n_headers = 1,
	    .max_body = max,
	    .cancelled = is_stopped,
	    .ctx = c->slack};
	int rc;

	/* The token goes nowhere else. */
	if (!text_has_prefix(url, c->slack->files_url) || strchr(url, '\\') != NULL)
		return why_set(&c->why, ERR_DENIED, "the file is not at Slack");
	rc = slack_token_of(c, &token);
	if (rc != OK)
		return rc;
	auth = str_printf("Bearer %s", token);
	str_wipe(&token);
	header.value = auth;
	req.timeout_ms = MAX(c->deadline_mono_ms - clock_mono_ms(), (int64_t)1);
	rc = http_client_do(&req, &resp, &c->why);
	str_wipe(&auth);
	if (rc == OK && resp.status != 200)
		rc = why_set(
		    &c->why, resp.status / 100 == 5 ? ERR_NET : ERR_NOT_FOUND, "Slack answered %d", resp.status);
	/* Without the right to read files the answer is a page to log in. */
	if (rc == OK && resp.content_type != NULL && text_has_prefix(resp.content_type, "text/html"))
		rc = why_set(&c->why, ERR_NOT_FOUND, "Slack answered with a page, not with the file");
	if (rc == OK) {
		strbuf_fini(ret);
		*ret = resp.body;
		resp.body = STRBUF(max);
	}
	http_client_response_fini(&resp);
	return rc;
}

/* The workspace as a key. */
static const char *place_of(const struct slack_call *c)
{
	return c->place != NULL ? c->place : "";
}

int slack_self(struct slack_call *c, char **ret_user, char **ret_bot)
{
	struct slack *s = c->slack;
	AUTO_JSON answer = NULL;
	int rc = OK;

	pthread_mutex_lock(&s->mtx);
	answer = json_incref(json_object_get(s->selves, place_of(c)));
	pthread_mutex_unlock(&s->mtx);
	if (answer == NULL)
		rc = slack_get(c, "auth.test", "", &answer);
	if (rc != OK)
		return rc;
	*ret_user = str_dup(json_word(answer, "user_id"));
	*ret_bot = str_dup(json_word(answer, "bot_id"));
	pthread_mutex_lock(&s->mtx);
	if (json_object_size(s->selves) >= NAMES_MAX)
		json_object_clear(s->selves);
	json_put_new(s->selves, place_of(c), json_incref(answer));
	pthread_mutex_unlock(&s->mtx);
	return OK;
}

void slack_forget(struct slack *s, const char *place)
{
	pthread_mutex_lock(&s->mtx);
	json_object_del(s->selves, place);
	pthread_mutex_unlock(&s->mtx);
}

static char *name_known(struct slack *s, const char *key)
{
	char *name;

	pthread_mutex_lock(&s->mtx);
	name = str_dup(json_string_value(json_object_get(s->names, key)));
	pthread_mutex_unlock(&s->mtx);
	return name;
}

char *slack_name(struct slack_call *c, const char *user)
{
	AUTO_STR key = str_printf("%s/%s", place_of(c), user);
	char *name = name_known(c->slack, key);
	AUTO_JSON answer = NULL;
	const json_t *u, *profile;

	if (name != NULL || !text_is_token(user, "", SLACK_ID_MAX) || c->names_asked++ >= NAMES_ASKED_MAX)
		return name != NULL ? name : str_dup(user);
	AUTO_STR query = str_printf("user=%s", user);

	if (slack_get(c, "users.info", query, &answer) != OK)
		return str_dup(user);
	u = json_object_get(answer, "user");
	profile = json_object_get(u, "profile");
	name = text_line(json_word(profile, "display_name")[0] != '\0' ? json_word(profile, "display_name")
			 : json_word(u, "real_name")[0] != '\0'	       ? json_word(u, "real_name")
			 : json_word(u, "name")[0] != '\0'	       ? json_word(u, "name")
								       : user,
	    NAME_BYTES);
	pthread_mutex_lock(&c->slack->mtx);
	if (json_object_size(c->slack->names) >= NAMES_MAX)
		json_object_clear(c->slack->names);
	json_put(c->slack->names, key, name);
	pthread_mutex_unlock(&c->slack->mtx);
	return name;
}
