/* Slack: its events and clicks, whether signed over HTTP or by Socket Mode. docs.slack.dev, "Verifying requests from
 * Slack", "Events API", "Handling user interaction". */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/seal.h"
#include "base/text.h"
#include "server/triggers/slack_priv.h"
#include <sodium.h>
#include <string.h>
#include <strings.h>

#define AGE_MAX_S 300
#define CHALLENGE_MAX 1000
#define READ_MS 15000

METRIC_COUNTER(limited, "bullpen_slack_rate_limited_total", "Times Slack told that it held events back.");

static const json_t *inner(const json_t *o, const char *key)
{
	return json_object_get(o, key);
}

static bool is_id(const char *s)
{
	return text_is_token(s, "", SLACK_ID_MAX);
}

static bool is_ts(const char *s)
{
	return text_is_token(s, ".", 32);
}

static int check_signature(const struct slack *s, const struct inside_delivery *d, struct why *why)
{
	const char *given = d->header(d, "x-slack-signature"), *time = d->header(d, "x-slack-request-timestamp");
	crypto_auth_hmacsha256_state mac;
	unsigned char bytes[crypto_auth_hmacsha256_BYTES];
	char hex[2 * sizeof bytes + 1];
	int64_t at = 0, now = clock_wall_ms() / 1000;

	if (given == NULL || time == NULL || !text_has_prefix(given, "v0=") || strlen(given + 3) != sizeof hex - 1)
		return why_set(why, ERR_UNAUTHORIZED, "no signature");
	if (text_parse_int(time, 0, INT64_MAX / 2000, &at) != OK || at < now - AGE_MAX_S || at > now + AGE_MAX_S)
		return why_set(why, ERR_UNAUTHORIZED, "its time is more than five minutes off");
	crypto_auth_hmacsha256_init(&mac, (const unsigned char *)s->signing_secret, strlen(s->signing_secret));
	crypto_auth_hmacsha256_update(&mac, (const unsigned char *)"v0:", 3);
	crypto_auth_hmacsha256_update(&mac, (const unsigned char *)time, strlen(time));
	crypto_auth_hmacsha256_update(&mac, (const unsigned char *)":", 1);
	crypto_auth_hmacsha256_update(&mac, (const unsigned char *)d->body, d->len);
	crypto_auth_hmacsha256_final(&mac, bytes);
	sodium_bin2hex(hex, sizeof hex, bytes, sizeof bytes);
	return sodium_memcmp(hex, given + 3, sizeof hex - 1) == 0 ? OK
								  : why_set(why, ERR_UNAUTHORIZED, "wrong signature");
}

/* An event that asks us for something. */
static bool is_request(const json_t *event)
{
	const char *type = json_word(event, "type"), *subtype = json_word(event, "subtype");
	bool speaks = strcmp(type, "app_mention") == 0 ||
		      (strcmp(type, "message") == 0 && strcmp(json_word(event, "channel_type"), "im") == 0);

	/* What machines say, edits and deletions start nothing. */
	return speaks && inner(event, "bot_id") == NULL && inner(event, "bot_profile") == NULL &&
	       inner(event, "edited") == NULL && (subtype[0] == '\0' || strcmp(subtype, "file_share") == 0) &&
	       is_id(json_word(event, "user")) && is_id(json_word(event, "channel")) && is_ts(json_word(event, "ts")) &&
	       (inner(event, "thread_ts") == NULL || is_ts(json_word(event, "thread_ts")));
}

/* The app is gone from a workspace, or the token of its bot. */
static bool takes_token_away(const json_t *event)
{
	const char *type = json_word(event, "type");

	return strcmp(type, "app_uninstalled") == 0 ||
	       (strcmp(type, "tokens_revoked") == 0 && json_array_size(inner(inner(event, "tokens"), "bot")) > 0);
}

static const char *thread_ts(const json_t *event)
{
	const char *root = json_word(event, "thread_ts");

	return root[0] != '\0' ? root : json_word(event, "ts");
}

static int answer_challenge(const json_t *body, struct inside_answer *answer, struct why *why)
{
	const char *challenge = json_word(body, "challenge");

	if (!text_is_token(challenge, "-_.~+/=", CHALLENGE_MAX))
		return why_set(why, ERR_INVALID, "the challenge is missing, or not one of Slack's");
	answer->content_type = "text/plain";
	answer->text = str_dup(challenge);
	return ERR_EMPTY;
}

static bool is_ours(const struct slack *s, const char *app)
{
	return s->app_id == NULL || strcmp(s->app_id, app) == 0;
}

int slack_take_event(
    struct slack *s, const json_t *body, struct accepted *ret, struct inside_answer *answer, struct why *why)
{
	const char *type = json_word(body, "type"), *team = json_word(body, "team_id"),
		   *id = json_word(body, "event_id");
	const json_t *event = inner(body, "event");

	if (strcmp(type, "url_verification") == 0)
		return answer_challenge(body, answer, why);
	if (!is_ours(s, json_word(body, "api_app_id")))
		return why_set(why, ERR_UNAUTHORIZED, "it is for another app than slack.app_id");
	if (strcmp(type, "app_rate_limited") == 0) {
		metric_add(&limited, 1);
		log_warn("slack.limited", "hint=\"Slack holds events back, more than 30000 came within an hour\"");
		return ERR_EMPTY;
	}
	if (strcmp(type, "event_callback") != 0 || !json_is_object(event))
		return why_set(why, ERR_INVALID, "it is no event");
	if (!is_id(team) || !is_id(id))
		return why_set(why, ERR_INVALID, "team_id or event_id is missing or wrong");
	type = json_word(event, "type");
	if (takes_token_away(event))
		log_error("slack.broken", "event=%s workspace=%s hint=\"install the app again\"", type, team);
	ret->place = str_dup(team);
	ret->delivery = str_dup(id);
	ret->event = str_dup(text_is_token(type, "_.", 64) ? type : "other");
	ret->ignored = !is_request(event) && !takes_token_away(event);
	ret->thread =
	    !is_request(event) ? str_dup("") : str_printf("%s/%s", json_word(event, "channel"), thread_ts(event));
	return OK;
}

static const char *const actions[] = {"bullpen_retry", "bullpen_followup", "bullpen_archive", "bullpen_more"};

static bool is_action_of_ours(const char *id)
{
	for (size_t i = 0; i < ARRAY_LEN(actions); i++)
		if (strcmp(actions[i], id) == 0)
			return true;
	return false;
}

static bool is_form_of_ours(const char *id)
{
	return strcmp(id, "bullpen_followup") == 0 || strcmp(id, SLACK_SWITCH_FORM) == 0;
}

/* The message that a click or a form is about; its thread is the conversation. */
static char *thread_of_click(const json_t *payload)
{
	const json_t *container = inner(payload, "container");
	const char *channel = json_word(container, "channel_id"), *ts = json_word(container, "thread_ts");

	if (ts[0] == '\0')
		ts = json_word(container, "message_ts");
	return is_id(channel) && is_ts(ts) ? str_printf("%s/%s", channel, ts) : NULL;
}

int slack_take_interaction(struct slack *s, const json_t *payload, struct accepted *ret, struct why *why)
{
	const char *type = json_word(payload, "type"), *team = json_word(inner(payload, "team"), "id");
	const char *trigger = json_word(payload, "trigger_id"), *user = json_word(inner(payload, "user"), "id");
	const json_t *action = json_array_get(inner(payload, "actions"), 0);
	bool click = strcmp(type, "block_actions") == 0, form = strcmp(type, "view_submission") == 0;

	if (!is_ours(s, json_word(payload, "api_app_id")))
		return why_set(why, ERR_UNAUTHORIZED, "it is for another app than slack.app_id");
	if (!is_id(team) || !is_id(user) || !text_is_token(trigger, ".", 200))
		return why_set(why, ERR_INVALID, "team, user or trigger_id are missing or wrong");
	ret->place = str_dup(team);
	ret->delivery = str_printf("click-%s", trigger);
	ret->event = str_dup(click ? "block_actions" : form ? "view_submission" : "other");
	ret->thread = click ? thread_of_click(payload) : NULL;
	ret->ignored = click ? ret->thread == NULL || !is_action_of_ours(json_word(action, "action_id"))
			     : !form || !is_form_of_ours(json_word(inner(payload, "view"), "callback_id"));
	if (ret->thread == NULL)
		ret->thread = str_dup("");
	ret->body = json_text(payload);
	return OK;
}

static int accept_event(struct slack *s, const struct inside_delivery *d, struct accepted *ret,
    struct inside_answer *answer, struct why *why)
{
	AUTO_JSON body = NULL;
	int rc = json_parse(d->body, d->len, &body, why);

	if (rc == OK && !json_is_object(body))
		rc = why_set(why, ERR_INVALID, "the body is no JSON object");
	return rc == OK ? slack_take_event(s, body, ret, answer, why) : rc;
}

static int accept_interaction(struct slack *s, const struct inside_delivery *d, struct accepted *ret,
    struct inside_answer *answer, struct why *why)
{
	const char *at = text_has_prefix(d->body, "payload=") ? d->body + 8 : NULL;
	AUTO_STR text = NULL;
	AUTO_JSON payload = NULL;
	int rc;

	if (at == NULL)
		return why_set(why, ERR_INVALID, "the form has no payload");
	AUTO_STR spaced = str_ndup(at, strcspn(at, "&"));

	for (char *c = spaced; *c != '\0'; c++)
		if (*c == '+')
			*c = ' ';
	if (text_percent_decode(spaced, strlen(spaced), &text) != OK)
		return why_set(why, ERR_INVALID, "the payload is not valid percent-encoding");
	rc = json_parse(text, strlen(text), &payload, why);
	if (rc == OK && !json_is_object(payload))
		rc = why_set(why, ERR_INVALID, "the payload is no JSON object");
	if (rc == OK)
		rc = slack_take_interaction(s, payload, ret, why);
	if (rc != OK)
		return rc;
	/* A form is closed by an answer without a body. */
	answer->content_type = "text/plain";
	answer->text = str_dup("");
	return OK;
}

static int accept(struct triggers *t, const struct inside_delivery *d, struct accepted *ret,
    struct inside_answer *answer, struct why *why)
{
	struct slack *s = triggers_slack(t);
	int rc;

	if (s == NULL || s->signing_secret == NULL)
		return ERR_NOT_FOUND;
	if (d->len > SLACK_BODY_MAX)
		return why_set(why, ERR_INVALID, "the body has more than 1 MiB");
	rc = check_signature(s, d, why);
	if (rc != OK)
		return rc;
	return strcmp(d->path, "slack/events") == 0 ? accept_event(s, d, ret, answer, why)
						    : accept_interaction(s, d, ret, answer, why);
}

static bool takes(const char *path)
{
	return strcmp(path, "slack/events") == 0 || strcmp(path, "slack/interactive") == 0;
}

int slack_event_again(struct triggers *t, const char *place, const char *id, json_t **ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(triggers_cfg(t)->store, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(tx, &q,
		    "SELECT body FROM inbox WHERE id = $1 AND surface = 'slack' AND place = $2 AND body IS NOT NULL "
		    "AND event IN ('app_mention', 'message')",
		    "ss", id, place);
	if (rc == OK)
		rc = query_next(q);
	return rc == OK ? json_parse(query_str(q, 0), strlen(query_str(q, 0)), ret, NULL) : rc;
}

static char *name_of(void *ctx, const char *user)
{
	return slack_name(ctx, user);
}

/* Who we are in that workspace: the event says it, or Slack is asked. */
static int find_self(struct slack_call *call, const json_t *body, char **ret)
{
	const char *user = json_word(json_array_get(inner(body, "authorizations"), 0), "user_id");
	AUTO_STR bot = NULL;

	if (is_id(user)) {
		*ret = str_dup(user);
		return OK;
	}
	return slack_self(call, ret, &bot);
}

static int read_message(
    struct triggers *t, const char *place, const json_t *body, const char *asker, struct asked *ret, struct why *why)
{
	const json_t *event = inner(body, "event");
	struct slack_call call = {
	    .slack = triggers_slack(t), .place = place, .deadline_mono_ms = clock_mono_ms() + READ_MS};
	AUTO_STR self = NULL;
	AUTO_STR text = NULL;
	bool mentioned = false;
	const char *behind;
	int rc =
	    is_request(event) ? find_self(&call, body, &self) : why_set(&call.why, ERR_EMPTY, "it asks for nothing");

	if (rc != OK)
		return why_set(why, rc, "%s", call.why.text);
	if (self != NULL && strcmp(self, json_word(event, "user")) == 0)
		return why_set(why, ERR_EMPTY, "we said it ourselves");
	text = slack_decode(json_word(event, "text"), self, name_of, &call, &mentioned);
	if (!mentioned && strcmp(json_word(event, "type"), "app_mention") == 0)
		return why_set(why, ERR_EMPTY, "it mentions nobody here");
	behind = slack_forced(text);
	ret->forces_new = behind != NULL;
	ret->text = text_trim(behind != NULL ? behind : text);
	ret->account = str_dup(asker != NULL ? asker : json_word(event, "user"));
	ret->at = json_pack("{s:s, s:s, s:s, s:s, s:b}", "channel", json_word(event, "channel"), "thread",
	    thread_ts(event), "ts", json_word(event, "ts"), "user", ret->account, "external",
	    json_is_true(inner(body, "is_ext_shared_channel")));
	return OK;
}

static json_t *place_of_click(const struct inbox_row *row, const char *user)
{
	size_t n = strcspn(row->thread, "/");

	return json_pack("{s:o, s:s, s:s}", "channel", json_stringn(row->thread, n), "thread",
	    row->thread[n] == '/' ? row->thread + n + 1 : "", "user", user);
}

/* Of the menu: "id:AGENT", "switch:EVENT". What the second needs is asked for by a form. */
static int read_choice(
    const struct inbox_row *row, const char *value, const char *user, struct asked *ret, struct why *why)
{
	ret->shows_id = text_has_prefix(value, "id:");
	if (!(ret->shows_id || text_has_prefix(value, SLACK_SWITCH)) || !text_is_token(strchr(value, ':') + 1, "-", 64))
		return why_set(why, ERR_INVALID, "the value of the menu is wrong");
	if (ret->shows_id)
		ret->agent_id = str_dup(value + 3);
	ret->account = str_dup(user);
	ret->at = place_of_click(row, user);
	ret->text = str_dup("");
	return OK;
}

static int read_click(
    struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *ret, struct why *why)
{
	const json_t *action = json_array_get(inner(body, "actions"), 0);
	const char *id = json_word(action, "action_id"), *value = json_word(action, "value");
	const char *user = json_word(inner(body, "user"), "id");
	AUTO_JSON again = NULL;
	int rc;

	if (strcmp(id, "bullpen_more") == 0)
		return read_choice(row, json_word(inner(action, "selected_option"), "value"), user, ret, why);
	if (strcmp(id, "bullpen_retry") == 0) {
		rc = slack_event_again(t, row->place, value, &again);
		if (rc == OK)
			rc = read_message(t, row->place, again, user, ret, why);
		ret->forces_new = true;
		return rc;
	}
	if (!text_is_token(value, "-", 64))
		return why_set(why, ERR_INVALID, "the value of the button is wrong");
	ret->account = str_dup(user);
	ret->agent_id = str_dup(value);
	ret->at = place_of_click(row, user);
	ret->text = str_dup("");
	ret->stops = ret->archives = strcmp(id, "bullpen_archive") == 0;
	return OK;
}

/* The same prompt elsewhere: a repository of the list, or another one. */
static int read_switch(struct triggers *t, const struct inbox_row *row, const json_t *view, const char *user,
    struct asked *ret, struct why *why)
{
	const json_t *values = inner(inner(view, "state"), "values");
	const char *typed = json_word(inner(inner(values, "other"), "text"), "value");
	const char *chosen = json_word(inner(inner(inner(values, "repo"), "choice"), "selected_option"), "value");
	AUTO_JSON again = NULL;
	AUTO_STR event = slack_event_of_form(view);
	int rc = event != NULL ? slack_event_again(t, row->place, event, &again) : ERR_EMPTY;

	if (rc == ERR_EMPTY)
		return why_set(why, rc, "the message that it is about is not kept any more");
	if (rc == OK)
		rc = read_message(t, row->place, again, user, ret, why);
	ret->forces_new = true;
	ret->repo_instead = text_trim(typed[0] != '\0' ? typed : chosen);
	return rc;
}

char *slack_event_of_form(const json_t *view)
{
	const char *meta = json_word(view, "private_metadata");
	AUTO_JSON about = NULL;

	if (strcmp(json_word(view, "callback_id"), SLACK_SWITCH_FORM) != 0 ||
	    json_parse(meta, strlen(meta), &about, NULL) != OK || !text_is_token(json_word(about, "event"), "-", 64))
		return NULL;
	return str_dup(json_word(about, "event"));
}

/* A form that was filled: what it is about is in its private_metadata, which we wrote and Slack keeps. */
static int read_form(
    struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *ret, struct why *why)
{
	const json_t *view = inner(body, "view");
	const char *meta = json_word(view, "private_metadata"), *user = json_word(inner(body, "user"), "id");
	const json_t *input = inner(inner(inner(inner(view, "state"), "values"), "prompt"), "text");
	AUTO_JSON about = NULL;
	int rc;

	if (strcmp(json_word(view, "callback_id"), SLACK_SWITCH_FORM) == 0)
		return read_switch(t, row, view, user, ret, why);
	rc = json_parse(meta, strlen(meta), &about, NULL);
	if (rc != OK || !is_id(json_word(about, "channel")) || !is_ts(json_word(about, "thread")) ||
	    !text_is_token(json_word(about, "agent"), "-", 64))
		return why_set(why, ERR_INVALID, "the form is none of ours");
	ret->account = str_dup(user);
	ret->agent_id = str_dup(json_word(about, "agent"));
	ret->text = text_trim(json_word(input, "value"));
	ret->at = json_pack("{s:s, s:s, s:s}", "channel", json_word(about, "channel"), "thread",
	    json_word(about, "thread"), "user", user);
	return OK;
}

static int read_any(
    struct triggers *t, const struct inbox_row *row, const json_t *body, struct asked *ret, struct why *why)
{
	struct slack_call call = {.slack = triggers_slack(t), .place = row->place};
	char *token = NULL;
	int rc;

	if (triggers_slack(t) == NULL)
		return why_set(why, ERR_EMPTY, "Slack is not in the settings any more");
	if (strcmp(row->event, "app_uninstalled") == 0 || strcmp(row->event, "tokens_revoked") == 0)
		return slack_uninstalled(t, row->place, why);
	rc = slack_token_of(&call, &token);
	str_wipe(&token);
	if (rc != OK)
		return rc == ERR_UNAUTHORIZED ? why_set(why, ERR_EMPTY, "%s", call.why.text) : rc;
	rc = strcmp(row->event, "block_actions") == 0	  ? read_click(t, row, body, ret, why)
	     : strcmp(row->event, "view_submission") == 0 ? read_form(t, row, body, ret, why)
							  : read_message(t, row->place, body, NULL, ret, why);
	ret->trusted = ret->may_be_answered = true;
	if (rc == OK)
		ret->login = str_dup(ret->account);
	return rc;
}

const json_t *slack_said(const json_t *body)
{
	return inner(body, "event");
}

const struct surface surface_slack = {.name = "slack",
    .keys = SLACK_KEYS,
    .takes = takes,
    .accept = accept,
    .read = read_any,
    .look = slack_look,
    .command = slack_command,
    .settle = slack_settle,
    .describe = slack_describe,
    .tell = slack_tell};
