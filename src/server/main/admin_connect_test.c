/* An event as the service would send it, signed with the secret of the settings. It asks for nothing: it is stored and
 * left alone. */
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/seal.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/main/admin_connect_priv.h"
#include <sodium.h>
#include <string.h>

static char *signature_of(const char *prefix, const char *secret, const char *text)
{
	unsigned char mac[HMAC_SHA256_LEN];
	char hex[2 * sizeof mac + 1];

	hmac_sha256(secret, strlen(secret), text, strlen(text), mac);
	sodium_bin2hex(hex, sizeof hex, mac, sizeof mac);
	return str_printf("%s%s", prefix, hex);
}

/* What became of it. `of`: whose secret it was signed with; `challenge`: what Slack's event is answered with, NULL: a
 * JSON object. */
static void send_event(struct connect *c, const char *of, const char *id, const struct http_header *headers, size_t n,
    const char *body, const char *challenge)
{
	AUTO_FINI(connect_answer) a = {0};
	AUTO_STR url = str_printf("%s%s", c->url, c->path);
	struct why why = {0};

	if (connect_post(url, NULL, NULL, headers, n, body, &a, &why) != OK)
		connect_missing(c, "%s cannot be reached: %s", url, why.text);
	else if (a.status == 401)
		connect_missing(c,
		    "%s answers 401: the secrets differ (the server was started with another one than %s has), or the "
		    "clocks do",
		    url, of);
	else if (a.status == 404)
		connect_missing(c,
		    "%s answers 404: %s is not configured there (settings without %s, or not started again since)", url,
		    c->name, of);
	else if (a.status != 200)
		connect_missing(
		    c, "%s answers %d: %.300s", url, a.status, json_word(json_object_get(a.json, "error"), "message"));
	else if (challenge != NULL && strcmp(a.text, challenge) == 0)
		connect_ok("%s took the event: the challenge was answered", url);
	else if (challenge == NULL && json_is_object(a.json))
		connect_ok("%s took the event: it is stored (delivery %s) and asks for nothing", url, id);
	else
		connect_missing(c, "%s answers 200, but not as this server does: something else stands there", url);
}

static void test_forge(struct connect *c, struct forge *f)
{
	const char *secret = forge_webhook_secret(f);
	AUTO_STR of = str_printf("webhook_secret_file of %s", forge_name(f));
	char id[UUID_LEN];

	if (secret == NULL) {
		connect_missing(c, "%s", of);
		return;
	}
	id_uuid(id);
	if (c->surface == CONNECT_GITLAB) {
		const struct http_header headers[] = {
		    {"x-gitlab-event", "Note Hook"}, {"x-gitlab-event-uuid", id}, {"x-gitlab-token", secret}};

		send_event(c, of, id, headers, ARRAY_LEN(headers), "{\"object_kind\":\"bullpen_test\"}", NULL);
		return;
	}
	static const char body[] = "{\"action\":\"bullpen_test\"}";
	bool github = c->surface == CONNECT_GITHUB;
	AUTO_STR mac = signature_of(github ? "sha256=" : "", secret, body);
	const struct http_header headers[] = {{github ? "x-github-event" : "x-gitea-event", "issue_comment"},
	    {github ? "x-github-delivery" : "x-gitea-delivery", id},
	    {github ? "x-hub-signature-256" : "x-gitea-signature", mac}};

	send_event(c, of, id, headers, ARRAY_LEN(headers), body, NULL);
}

static void test_linear(struct connect *c, const struct connect_table *t)
{
	AUTO_JSON event = json_pack("{s:s, s:s, s:I}", "type", "BullpenTest", "action", "test", "webhookTimestamp",
	    (json_int_t)clock_wall_ms());
	AUTO_STR body = json_text(event);
	AUTO_STR mac = signature_of("", t->secret, body);
	char id[UUID_LEN];

	id_uuid(id);
	const struct http_header headers[] = {
	    {"linear-event", "BullpenTest"}, {"linear-delivery", id}, {"linear-signature", mac}};

	send_event(c, "linear.webhook_secret_file", id, headers, ARRAY_LEN(headers), body, NULL);
}

static void test_slack(struct connect *c, const struct connect_table *t)
{
	char challenge[UUID_LEN];

	id_uuid(challenge);
	AUTO_JSON event = json_pack("{s:s, s:s}", "type", "url_verification", "challenge", challenge);
	AUTO_STR body = json_text(event);
	AUTO_STR at = str_printf("%lld", (long long)(clock_wall_ms() / 1000));
	AUTO_STR base = str_printf("v0:%s:%s", at, body);
	AUTO_STR mac = signature_of("v0=", t->secret, base);
	const struct http_header headers[] = {{"x-slack-request-timestamp", at}, {"x-slack-signature", mac}};

	send_event(c, "slack.signing_secret_file", "", headers, ARRAY_LEN(headers), body, challenge);
}

static void test_table(struct connect *c)
{
	bool slack = c->surface == CONNECT_SLACK;
	AUTO_FINI(connect_table) t = {0};

	connect_table_read(c, &t);
	if (!t.is_there)
		connect_missing(c, "the table [%s] in %s", slack ? "slack" : "linear", c->config);
	else if (t.secret == NULL && t.app_token != NULL)
		connect_missing(
		    c, "slack.signing_secret_file: in Socket Mode alone there is no route that could be tested");
	else if (t.secret == NULL)
		connect_missing(c, "%s", slack ? "slack.signing_secret_file" : "linear.webhook_secret_file");
	else if (slack)
		test_slack(c, &t);
	else
		test_linear(c, &t);
}

void connect_test(struct connect *c)
{
	struct forge *f;
	size_t at = 0;

	if (c->surface > CONNECT_GITEA)
		test_table(c);
	else if (c->forges == NULL)
		connect_missing(c, "%s: %s", c->config, c->forges_why.text);
	else if ((f = connect_forge(c, &at)) == NULL)
		connect_missing(c, "a table [[forges]] of this kind in %s", c->config);
	else
		for (; f != NULL; f = connect_forge(c, &at))
			test_forge(c, f);
}
