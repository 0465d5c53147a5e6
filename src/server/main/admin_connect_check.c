/* Whether what the settings have works, and has the rights that are needed. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/main/admin_connect_priv.h"
#include <string.h>

#define SKEW_MAX_MS 30000 /* GitHub takes a minute before, Linear and we a minute each way */

static bool list_has(const json_t *list, const char *word)
{
	const json_t *e;
	size_t i;

	json_array_foreach(
	    (json_t *)list, i, e) if (json_is_string(e) && strcmp(json_string_value(e), word) == 0) return true;
	return false;
}

static void check_clock(struct connect *c, int64_t skew_ms)
{
	if (skew_ms == INT64_MAX)
		connect_note("%s does not say what time it is: the clocks were not compared", c->name);
	else if (skew_ms > SKEW_MAX_MS || skew_ms < -SKEW_MAX_MS)
		connect_missing(c, "this machine's clock is %lld s %s %s's: signatures and tokens are refused",
		    (long long)((skew_ms > 0 ? skew_ms : -skew_ms) / 1000), skew_ms > 0 ? "ahead of" : "behind",
		    c->name);
	else
		connect_ok("the clocks agree");
}

/* Whether somebody outside of this machine could use the address at all. */
static bool is_of_this_machine(const char *url)
{
	static const char *const hosts[] = {"localhost", "127.", "[::1]", "0.0.0.0"};
	const char *host = strstr(url, "://") + 3;

	for (size_t i = 0; i < ARRAY_LEN(hosts); i++)
		if (text_has_prefix(host, hosts[i]))
			return true;
	return false;
}

/* `far`: the service is on the internet. */
static void check_url(struct connect *c, bool far)
{
	AUTO_FINI(connect_answer) a = {0};
	AUTO_STR health = NULL;
	struct why why = {0};

	if (c->url == NULL) {
		connect_missing(c, "server.public_url (or --url): where %s reaches this server", c->name);
		return;
	}
	if (far && is_of_this_machine(c->url))
		connect_missing(c, "%s is this machine's own address: %s cannot reach it", c->url, c->name);
	else if (far && !text_has_prefix(c->url, "https://"))
		connect_missing(c, "%s sends to https:// addresses, and %s is none", c->name, c->url);
	health = str_printf("%s/healthz", c->url);
	if (connect_post(health, NULL, NULL, NULL, 0, NULL, &a, &why) != OK)
		connect_missing(c, "%s cannot be reached from here: %s", c->url, why.text);
	else if (a.status != 200)
		connect_missing(c, "%s answers %d from here: is it the server's address?", health, a.status);
	else
		connect_ok(
		    "%s answers from here; whether %s reaches it, only an event of theirs shows", c->url, c->name);
}

static void check_app(struct connect *c, const json_t *said)
{
	static const char *const rights[] = {"contents", "pull_requests", "issues"};
	static const char *const events[] = {CONNECT_GITHUB_EVENTS};
	const json_t *has = json_object_get(said, "permissions");
	const char *hook = json_word(said, "webhookUrl");
	AUTO_STR want = c->url != NULL ? str_printf("%s%s", c->url, c->path) : NULL;
	bool all = true;

	for (size_t i = 0; i < ARRAY_LEN(rights); i++)
		if (strcmp(json_word(has, rights[i]), "write") != 0) {
			all = false;
			connect_missing(c, "the app's permission %s: read and write", rights[i]);
		}
	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		if (!list_has(json_object_get(said, "events"), events[i])) {
			all = false;
			connect_missing(c, "the app's subscription to the event %s", events[i]);
		}
	if (all)
		connect_ok("the app has its permissions and events");
	if (want != NULL && hook[0] != '\0' && strcmp(hook, want) != 0)
		connect_missing(c, "the app sends its events to %s, not to %s", hook, want);
	else if (want != NULL && hook[0] != '\0')
		connect_ok("the app sends its events to %s", hook);
	else
		connect_missing(c, "the app's webhook: %s has no address for it", c->name);
}

static void check_token(struct connect *c, const json_t *said)
{
	const json_t *scopes = json_object_get(said, "scopes");
	const char *want = c->surface == CONNECT_GITHUB ? "repo" : "api";

	if (scopes == NULL)
		connect_note("%s does not say what this token may do; needed is what is written above", c->name);
	else if (list_has(scopes, want))
		connect_ok("the token has the scope %s", want);
	else
		connect_missing(c, "the token's scope %s", want);
	connect_note("webhooks of repositories are not looked at: bullpen admin connect test sends an event");
}

/* Beside an app: what opens pull requests that are not the app's. */
static void check_second(struct connect *c, struct forge *f)
{
	struct forge_call call = {
	    .forge = f, .repo = "", .by_token = true, .deadline_mono_ms = clock_mono_ms() + CONNECT_TIMEOUT_MS};
	AUTO_JSON said = NULL;

	if (!forge_has_both(f))
		return;
	if (forge_check(&call, &said) != OK) {
		connect_missing(c, "%s, token_file beside the app: %s", forge_name(f), call.why.text);
		return;
	}
	connect_ok("%s knows the token beside the app as %s", forge_name(f), json_word(said, "login"));
	check_token(c, said);
}

static void check_forge(struct connect *c, struct forge *f)
{
	struct forge_call call = {.forge = f, .repo = "", .deadline_mono_ms = clock_mono_ms() + CONNECT_TIMEOUT_MS};
	AUTO_JSON said = NULL;
	const json_t *skew;
	int rc;

	if (forge_webhook_secret(f) == NULL)
		connect_missing(c, "webhook_secret_file of %s: without it none of its events is taken", forge_name(f));
	else
		connect_ok("%s has a webhook secret", forge_name(f));
	rc = forge_check(&call, &said);
	if (rc != OK) {
		connect_missing(c, "%s: %s%s", forge_name(f),
		    rc == ERR_UNAUTHORIZED ? "it does not take the credential: " : "",
		    call.why.text[0] != '\0' ? call.why.text : err_text(rc));
		return;
	}
	connect_ok("%s knows us as %s", forge_name(f), json_word(said, "login"));
	skew = json_object_get(said, "clockSkewMs");
	check_clock(c, skew != NULL ? json_integer_value(skew) : INT64_MAX);
	check_second(c, f);
	if (json_is_true(json_object_get(said, "isApp")))
		check_app(c, said);
	else
		check_token(c, said);
}

static void check_forges(struct connect *c)
{
	bool far = false;
	struct forge *f;
	size_t at = 0;

	while ((f = connect_forge(c, &at)) != NULL)
		far = far || strcmp(forge_host(f), "github.com") == 0 || strcmp(forge_host(f), "gitlab.com") == 0;
	check_url(c, far);
	at = 0;
	if (c->forges == NULL)
		connect_missing(c, "%s: %s", c->config, c->forges_why.text);
	else if ((f = connect_forge(c, &at)) == NULL)
		connect_missing(c, "a table [[forges]] of this kind in %s", c->config);
	else
		for (; f != NULL; f = connect_forge(c, &at))
			check_forge(c, f);
}

static void check_linear(struct connect *c, const struct connect_table *t)
{
	static const char query[] = "{\"query\":\"query { viewer { id name } organization { id } }\"}";
	AUTO_FINI(connect_answer) a = {0};
	struct why why = {0};

	if (connect_post(t->api_url, t->ca_file, t->token, NULL, 0, query, &a, &why) != OK) {
		connect_missing(c, "Linear cannot be reached: %s", why.text);
		return;
	}
	const json_t *data = json_object_get(a.json, "data"), *viewer = json_object_get(data, "viewer");
	const char *error = json_word(json_array_get(json_object_get(a.json, "errors"), 0), "message");

	check_clock(c, a.skew_ms);
	if (a.status != 200 || json_word(viewer, "id")[0] == '\0')
		connect_missing(c, "Linear does not take the token: it answered %d%s%.300s", a.status,
		    error[0] != '\0' ? ": " : "", error);
	else
		connect_ok("Linear knows us as %.100s (%.100s), organisation %.100s", json_word(viewer, "name"),
		    json_word(viewer, "id"), json_word(json_object_get(data, "organization"), "id"));
}

/* "a,b c": whether it has the word. */
static bool has_scope(const char *scopes, const char *word)
{
	for (const char *at = scopes; *at != '\0';) {
		size_t n = strcspn(at, ", ");

		if (n == strlen(word) && strncmp(at, word, n) == 0)
			return true;
		at += n + strspn(at + n, ", ");
	}
	return false;
}

static void check_slack_scopes(struct connect *c, const char *scopes)
{
	static const char *const need[] = {CONNECT_SLACK_SCOPES};
	bool all = true;

	if (scopes == NULL) {
		connect_note("Slack does not say what the bot may do");
		return;
	}
	for (size_t i = 0; i < ARRAY_LEN(need); i++)
		if (!has_scope(scopes, need[i])) {
			all = false;
			connect_missing(c, "the bot's scope %s (then install the app again)", need[i]);
		}
	if (json_is_true(json_object_get(json_object_get(c->root, "slack"), "link_by_email")) &&
	    !has_scope(scopes, "users:read.email"))
		connect_missing(c, "the bot's scope users:read.email, for link_by_email (then install the app again)");
	if (all)
		connect_ok("the bot has its scopes");
}

/* False: refused, and said so. */
static bool ask_slack(struct connect *c, const struct connect_table *t, const char *method, const char *token,
    const char *setting, struct connect_answer *ret)
{
	AUTO_STR url = str_printf("%s/%s", t->api_url, method);
	struct why why = {0};

	if (connect_post(url, t->ca_file, token, NULL, 0, "{}", ret, &why) != OK) {
		connect_missing(c, "Slack cannot be reached: %s", why.text);
		return false;
	}
	if (ret->status == 200 && json_is_true(json_object_get(ret->json, "ok")))
		return true;
	connect_missing(
	    c, "Slack does not take %s: it answered %d %.100s", setting, ret->status, json_word(ret->json, "error"));
	return false;
}

static void check_slack(struct connect *c, const struct connect_table *t)
{
	AUTO_FINI(connect_answer) a = {0};
	AUTO_FINI(connect_answer) socket = {0};

	if (ask_slack(c, t, "auth.test", t->token, "bot_token_file", &a)) {
		connect_ok("Slack knows us as %.100s (%.40s), workspace %.100s (%.40s)", json_word(a.json, "user"),
		    json_word(a.json, "user_id"), json_word(a.json, "team"), json_word(a.json, "team_id"));
		check_slack_scopes(c, a.scopes);
	}
	if (a.status != 0)
		check_clock(c, a.skew_ms);
	if (t->app_token != NULL && ask_slack(c, t, "apps.connections.open", t->app_token, "app_token_file", &socket))
		connect_ok("Socket Mode: Slack lets us in");
}

/* What browsers brought before. */
static void check_kept(struct connect *c, struct connect_table *t)
{
	AUTO_JSON kept = NULL;
	AUTO_STR own = TAKE(t->token);
	const json_t *row;
	size_t i;

	if (t->client_secret == NULL)
		connect_missing(c, "client_secret_file, which belongs to client_id");
	if (c->data_dir == NULL || connect_kept_tokens(c, &kept) != 0 || json_array_size(kept) == 0)
		connect_note("whether it is connected shows with --data DIR, once it is");
	json_array_foreach(kept, i, row)
	{
		t->token = str_dup(json_string_value(json_array_get(row, 2)));
		if (c->surface == CONNECT_SLACK)
			check_slack(c, t);
		else
			check_linear(c, t);
		str_wipe(&t->token);
	}
	t->token = TAKE(own);
}

static void check_table(struct connect *c)
{
	bool slack = c->surface == CONNECT_SLACK;
	AUTO_FINI(connect_table) t = {0};
	const json_t *table;

	connect_table_read(c, &t);
	table = json_object_get(c->root, slack ? "slack" : "linear");
	if (!t.is_there || !slack || t.app_token == NULL)
		check_url(c, !t.is_there || json_object_get(table, "api_url") == NULL);
	if (!t.is_there) {
		connect_missing(c, "the table [%s] in %s", slack ? "slack" : "linear", c->config);
		return;
	}
	if (t.secret != NULL)
		connect_ok("there is a %s", slack ? "signing secret" : "webhook secret");
	else if (!slack)
		connect_missing(c, "linear.webhook_secret_file: what its events are signed with");
	else if (t.app_token == NULL)
		connect_missing(c, "slack.signing_secret_file, or slack.app_token_file for Socket Mode");
	if (connect_by_browser(c)) {
		check_kept(c, &t);
		if (slack && t.token != NULL)
			check_slack(c, &t);
	} else if (t.token == NULL)
		connect_missing(c, "%s",
		    slack ? "slack.bot_token_file: the token of the bot" : "linear.token_file: the access token");
	else if (slack)
		check_slack(c, &t);
	else
		check_linear(c, &t);
}

void connect_check(struct connect *c)
{
	if (c->surface <= CONNECT_GITEA)
		check_forges(c);
	else
		check_table(c);
}
