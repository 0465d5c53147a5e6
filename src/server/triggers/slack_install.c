/* Workspaces that have installed the app each give a token of their own: oauth.v2.access. docs.slack.dev, "Installing
 * with OAuth". */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/http_client.h"
#include "server/triggers/service_tokens.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

#define GRANT_MS 15000
#define ANSWER_MAX ((size_t)256 * 1024)
#define CHECK_MS 15000

static bool is_token(const char *s)
{
	return text_has_prefix(s, "xox") && text_is_token(s, "-._", 500);
}

static int read_grant(const struct slack *s, const json_t *json, struct service_grant *ret, struct why *why)
{
	const json_t *team = json_object_get(json, "team");
	const char *access = json_word(json, "access_token"), *id = json_word(team, "id");

	if (!json_is_true(json_object_get(json, "ok"))) {
		AUTO_STR error = text_line(json_word(json, "error"), 100);

		return why_set(why, ERR_UNAUTHORIZED, "Slack refused oauth.v2.access: %s",
		    error[0] != '\0' ? error : "it answered nothing that can be read");
	}
	if (json_is_true(json_object_get(json, "is_enterprise_install")) || !text_is_token(id, "", SLACK_ID_MAX))
		return why_set(why, ERR_INVALID,
		    "the app was installed for a whole organisation: install it for each workspace instead");
	if (json_object_get(json, "refresh_token") != NULL)
		return why_set(why, ERR_INVALID,
		    "the app's tokens end (token rotation): make an app without it, it cannot be switched off");
	if (!is_token(access))
		return why_set(why, ERR_PROTOCOL, "Slack answered without a token of the bot");
	if (s->app_id != NULL && strcmp(s->app_id, json_word(json, "app_id")) != 0)
		return why_set(why, ERR_INVALID, "Slack answered for another app than slack.app_id");
	ret->token.access = str_dup(access);
	ret->place = str_dup(id);
	ret->name = text_line(json_word(team, "name"), 200);
	return OK;
}

int slack_grant_of_code(
    const struct slack *s, const char *code, const char *redirect_uri, struct service_grant *ret, struct why *why)
{
	const struct http_header headers[] = {
	    {"content-type", "application/x-www-form-urlencoded"}, {"user-agent", "bullpen"}};
	AUTO_STR url = str_printf("%s/oauth.v2.access", s->api_url);
	struct strbuf form = STRBUF(8192);
	struct http_client_request req = {.method = "POST",
	    .url = url,
	    .ca_file = s->ca_file,
	    .ca_setting = "slack.ca_file",
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .timeout_ms = GRANT_MS,
	    .max_body = ANSWER_MAX};
	struct http_client_response resp = {0};
	AUTO_JSON json = NULL;
	int rc;

	service_form_add(&form, "code", code);
	service_form_add(&form, "redirect_uri", redirect_uri);
	service_form_add(&form, "client_id", s->client_id);
	service_form_add(&form, "client_secret", s->client_secret);
	req.body = strbuf_str(&form);
	req.body_len = form.len;
	rc = http_client_do(&req, &resp, why);
	if (rc == OK) {
		IGNORE(json_parse(strbuf_str(&resp.body), resp.body.len, &json, NULL));
		rc = read_grant(s, json, ret, why);
		explicit_bzero(resp.body.data, resp.body.len);
	}
	http_client_response_fini(&resp);
	explicit_bzero(form.data, form.len);
	strbuf_fini(&form);
	return rc;
}

/* The workspace's own, or that of the settings, which is one workspace's. */
int slack_token_of(struct slack_call *c, char **ret)
{
	AUTO(tx) tx = NULL;
	AUTO_FINI(service_token) token = {0};
	int rc = ERR_EMPTY;

	if (c->slack->store != NULL && c->slack->client_id != NULL && c->place != NULL) {
		rc = tx_begin(c->slack->store, TX_READ, &tx);
		if (rc == OK)
			rc = service_token_load(tx, c->slack->seal, SERVICE_SLACK, c->place, &token);
	}
	if (rc == OK)
		*ret = TAKE(token.access);
	else if (rc == ERR_EMPTY && c->slack->bot_token != NULL)
		*ret = str_dup(c->slack->bot_token);
	else if (rc == ERR_EMPTY)
		return why_set(
		    &c->why, ERR_UNAUTHORIZED, "this workspace has not installed the app: bullpen admin connect slack");
	else
		return rc;
	return OK;
}

struct dropping {
	const char *place;
	int64_t n;
};

static int drop_in(struct tx *tx, void *arg)
{
	struct dropping *d = arg;

	return service_token_drop(tx, SERVICE_SLACK, d->place, &d->n);
}

/* Slack says it of tokens that are gone; one that it still takes is another, of an installation after that. */
int slack_uninstalled(struct triggers *t, const char *place, struct why *why)
{
	struct slack_call c = {
	    .slack = triggers_slack(t), .place = place, .deadline_mono_ms = clock_mono_ms() + CHECK_MS};
	struct dropping d = {.place = place};
	int rc = slack_get(&c, "auth.test", "", NULL);

	if (rc == OK)
		return why_set(why, ERR_EMPTY, "the token is taken still, so it stays");
	if (rc != ERR_UNAUTHORIZED)
		return why_set(why, rc, "%s", c.why.text);
	rc = store_write(triggers_cfg(t)->store, drop_in, &d);
	if (rc != OK)
		return rc;
	slack_forget(c.slack, place);
	log_error("slack.uninstalled", "workspace=%s hint=\"bullpen admin connect slack installs it again\"",
	    log_quote(place));
	return why_set(why, ERR_EMPTY, "the workspace has uninstalled the app");
}
