/* What we say in Slack: one message for each request, which says that it runs and is changed when it ends; marks at the
 * message that asked; and what only the asker sees. docs.slack.dev, chat.postMessage and others. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

#define TEXT_MAX ((size_t)3900) /* Slack: 4000 characters */
#define BLOCK_MAX ((size_t)2900) /* Slack: 3000 */
#define PENDING_MAX 50
#define PAGES_MAX 10

static const char *at_word(const json_t *at, const char *key)
{
	return json_word(at, key);
}

/* A courtesy: what Slack refuses is no reason to say nothing. */
static int react(struct slack_call *c, const json_t *at, const char *method, const char *name)
{
	AUTO_JSON args = json_pack(
	    "{s:s, s:s, s:s}", "channel", at_word(at, "channel"), "timestamp", at_word(at, "ts"), "name", name);
	int rc;

	if (at_word(at, "ts")[0] == '\0')
		return OK;
	rc = slack_post(c, method, args, NULL);
	return rc == ERR_INVALID || rc == ERR_NOT_FOUND ? OK : rc;
}

static json_t *button(const char *text, const char *action, const char *value)
{
	return json_pack("{s:s, s:{s:s, s:s}, s:s, s:s}", "type", "button", "text", "type", "plain_text", "text", text,
	    "action_id", action, "value", value);
}

static json_t *section(const char *text, const char *block_id)
{
	json_t *s = json_pack(
	    "{s:s, s:{s:s, s:s, s:b}}", "type", "section", "text", "type", "mrkdwn", "text", text, "verbatim", 1);

	json_put(s, "block_id", block_id);
	return s;
}

static json_t *choice(const char *text, const char *prefix, const char *id)
{
	AUTO_STR value = str_printf("%s%s", prefix, id);

	return json_pack("{s:{s:s, s:s}, s:s}", "text", "type", "plain_text", "text", text, "value", value);
}

/* `first`: the event that began the agent, and can begin it elsewhere; NULL: none. */
static json_t *menu(const struct told *told, const char *first)
{
	json_t *list = json_array();

	if (first != NULL)
		json_array_append_new(list, choice("Switch repository", SLACK_SWITCH, first));
	json_array_append_new(list, choice("View request id", "id:", told->agent_id));
	return json_pack("{s:s, s:s, s:o}", "type", "overflow", "action_id", "bullpen_more", "options", list);
}

static json_t *buttons(const struct told *told, const char *retry, const char *first)
{
	json_t *open = button("Open", "bullpen_open", "open"), *list = json_array();

	json_put(open, "url", told->agent_url);
	json_array_append_new(list, open);
	json_array_append_new(list, button("Add follow-up", "bullpen_followup", told->agent_id));
	if (retry != NULL)
		json_array_append_new(list, button("Try again", "bullpen_retry", retry));
	json_array_append_new(list, button("Stop and archive", "bullpen_archive", told->agent_id));
	json_array_append_new(list, menu(told, first));
	return json_pack("{s:s, s:o}", "type", "actions", "elements", list);
}

static json_t *message(const json_t *at, const char *text, json_t *blocks)
{
	json_t *m = json_pack("{s:s, s:s, s:s, s:b, s:b}", "channel", at_word(at, "channel"), "text", text, "parse",
	    "none", "unfurl_links", 0, "unfurl_media", 0);

	json_put(m, "thread_ts", at_word(at, "thread")[0] != '\0' ? at_word(at, "thread") : NULL);
	if (blocks != NULL)
		json_put_new(m, "blocks", blocks);
	return m;
}

/* A channel that is open to all is joined; a text that is too long is cut. */
static int post(struct slack_call *c, const char *method, json_t *m, json_t **ret)
{
	int rc = slack_post(c, method, m, ret);

	if (rc == ERR_INVALID && c->error != NULL && strcmp(c->error, "not_in_channel") == 0) {
		AUTO_JSON join = json_pack("{s:s}", "channel", json_word(m, "channel"));

		rc = slack_post(c, "conversations.join", join, NULL);
		if (rc == OK)
			rc = slack_post(c, method, m, ret);
	}
	if (rc == ERR_INVALID && c->error != NULL &&
	    (strcmp(c->error, "msg_too_long") == 0 || strcmp(c->error, "msg_blocks_too_long") == 0)) {
		const char *text = json_word(m, "text");
		AUTO_STR cut = str_ndup(text, text_utf8_cut(text, strlen(text), TEXT_MAX / 4));

		json_object_del(m, "blocks");
		json_put(m, "text", cut);
		rc = slack_post(c, method, m, ret);
	}
	return rc;
}

/* A message of ours that has this mark; *ret_ts "": there is none. */
static int find_message(struct slack_call *c, const json_t *at, const char *mark, char **ret_ts)
{
	AUTO_JSON answer = NULL;
	bool thread = at_word(at, "thread")[0] != '\0';
	AUTO_STR query =
	    str_printf("channel=%s%s%s&limit=200", at_word(at, "channel"), thread ? "&ts=" : "", at_word(at, "thread"));
	const json_t *m, *b;
	size_t i, k;
	int rc = slack_get(c, thread ? "conversations.replies" : "conversations.history", query, &answer);

	json_array_foreach(json_object_get(answer, "messages"), i, m) json_array_foreach(json_object_get(m, "blocks"),
	    k, b) if (json_object_get(m, "bot_id") != NULL && strcmp(json_word(b, "block_id"), mark) == 0 &&
		      *ret_ts == NULL) *ret_ts = str_dup(json_word(m, "ts"));
	if (*ret_ts == NULL)
		*ret_ts = str_dup("");
	return rc == ERR_NOT_FOUND || rc == ERR_INVALID ? OK : rc;
}

static json_t *pending_of(struct told *told)
{
	json_t *list = json_object_get(told->said, "pending");

	if (!json_is_array(list)) {
		list = json_array();
		json_put_new(told->said, "pending", list);
	}
	return list;
}

/* Whether the asker and we are both in that channel. */
static int may_post(struct slack_call *c, const char *channel, const char *user, bool *ret)
{
	AUTO_STR cursor = str_dup("");
	AUTO_STR about = str_printf("channel=%s", channel);
	AUTO_JSON info = NULL;
	int rc = slack_get(c, "conversations.info", about, &info);

	*ret = false;
	if (rc != OK || !json_is_true(json_object_get(json_object_get(info, "channel"), "is_member")))
		return rc == ERR_NOT_FOUND || rc == ERR_INVALID ? OK : rc;
	for (int page = 0; rc == OK && page < PAGES_MAX && !*ret; page++) {
		AUTO_JSON answer = NULL;
		AUTO_STR query =
		    str_printf("channel=%s&limit=1000%s%s", channel, cursor[0] != '\0' ? "&cursor=" : "", cursor);
		const json_t *member;
		size_t i;

		rc = slack_get(c, "conversations.members", query, &answer);
		json_array_foreach(json_object_get(answer, "members"), i, member) *ret =
		    *ret || (json_is_string(member) && strcmp(json_string_value(member), user) == 0);
		str_set(&cursor, json_word(json_object_get(answer, "response_metadata"), "next_cursor"));
		if (cursor[0] == '\0' || !text_is_token(cursor, "-_.=", 500))
			break;
	}
	return rc == ERR_NOT_FOUND || rc == ERR_INVALID ? OK : rc;
}

/* Where the message of a request goes: its thread, or the channel that it names. *ret: a new reference. */
static int choose_place(struct slack_call *c, const json_t *at, json_t **ret, const char **ret_note)
{
	const char *post_to = at_word(at, "post");
	bool may = false;
	int rc = post_to[0] != '\0' ? may_post(c, post_to, at_word(at, "user"), &may) : OK;

	*ret = json_deep_copy(at);
	if (may) {
		json_put(*ret, "channel", post_to);
		json_put(*ret, "thread", "");
	} else if (post_to[0] != '\0') {
		*ret_note = "I answer here, because you or I are not in the channel that you named.";
	}
	return rc;
}

static int say_begin(struct slack_call *c, struct told *told)
{
	AUTO_JSON place = NULL;
	const char *instead = NULL, *first = told->tell == TELL_STARTED ? told->event : NULL;
	int chosen = choose_place(c, told->at, &place, &instead);
	AUTO_STR note = told->text != NULL ? slack_escape(told->text, BLOCK_MAX / 2) : NULL;
	AUTO_STR text = str_printf("%s <%s|watch me>.%s%s",
	    told->tell == TELL_QUEUED ? "I go on with that:" : "On it:", told->agent_url, note != NULL ? "\n" : "",
	    note != NULL ? note : "");
	AUTO_STR mark = str_printf("bullpen-%s", told->event);
	AUTO_STR all = str_printf("%s%s%s", text, instead != NULL ? "\n" : "", instead != NULL ? instead : "");
	AUTO_JSON m = message(place, all, json_pack("[o, o]", section(all, mark), buttons(told, NULL, first)));
	AUTO_JSON answer = NULL;
	AUTO_STR ts = NULL;
	int rc = chosen == OK ? react(c, told->at, "reactions.add", "hourglass_flowing_sand") : chosen;

	/* It may have been posted before a crash. */
	if (rc == OK && told->again)
		rc = find_message(c, place, mark, &ts);
	if (rc == OK && (ts == NULL || ts[0] == '\0')) {
		rc = post(c, "chat.postMessage", m, &answer);
		str_set(&ts, json_word(answer, "ts"));
	}
	if (rc == OK && json_array_size(pending_of(told)) < PENDING_MAX)
		json_array_append_new(pending_of(told),
		    json_pack("{s:s, s:s, s:O, s:s, s:b}", "ts", ts, "channel", json_word(place, "channel"), "at",
			told->at, "event", told->event, "first", first != NULL));
	return rc;
}

/* Results are not said there. */
static bool is_quiet(const json_t *at)
{
	const json_t *quiet = json_object_get(at, "quiet");

	return json_is_true(quiet != NULL ? quiet : json_object_get(at, "external"));
}

/* The event of a message that said that an agent begins. */
static const char *first_of(const json_t *pending)
{
	return json_is_true(json_object_get(pending, "first")) ? json_word(pending, "event") : NULL;
}

static const char *outcome_of(const struct told *told, bool *ret_good)
{
	const char *s = told->status != NULL ? told->status : "";

	*ret_good = strcmp(s, "FINISHED") == 0;
	return told->asks		     ? "I have a question"
	       : *ret_good		     ? "Done"
	       : strcmp(s, "CANCELLED") == 0 ? "Stopped"
	       : strcmp(s, "EXPIRED") == 0   ? "Given up: it took too long"
					     : "It did not work";
}

static char *ended_line(const struct told *told, const char *what)
{
	AUTO_STR branch = told->branch != NULL ? slack_escape(told->branch, 300) : NULL;
	AUTO_STR pull = told->pull_url != NULL ? slack_escape(told->pull_url, 1000) : NULL;

	return str_printf("%s: <%s|what I did>%s%s%s%s%s.", what, told->agent_url, pull != NULL ? ", <" : "",
	    pull != NULL ? pull : "", pull != NULL ? "|pull request>" : "",
	    pull == NULL && branch != NULL ? ", branch " : "", pull == NULL && branch != NULL ? branch : "");
}

/* The message of the request becomes that of its end; one that somebody has removed is not written again. */
static int say_end(struct slack_call *c, struct told *told)
{
	json_t *pending = pending_of(told);
	AUTO_JSON first = json_deep_copy(json_array_get(pending, 0));
	const json_t *at = json_object_get(first, "at") != NULL ? json_object_get(first, "at") : told->at;
	const char *ts = json_word(first, "ts"), *event = json_word(first, "event");
	const char *said = told->result != NULL ? told->result : told->error;
	bool good = false, quiet = is_quiet(at);
	AUTO_STR line = ended_line(told, outcome_of(told, &good));
	/* Who is of another organisation sees the link alone. */
	AUTO_STR body = said != NULL && !quiet ? slack_escape(said, BLOCK_MAX) : NULL;
	AUTO_STR text = str_printf("%s%s%s", line, body != NULL ? "\n\n" : "", body != NULL ? body : "");
	AUTO_STR mark = str_printf("bullpen-%s", event);
	json_t *blocks = json_pack("[o]", section(line, event[0] != '\0' ? mark : NULL));
	bool again = told->status != NULL && strcmp(told->status, "ERROR") == 0 && event[0] != '\0';
	AUTO_JSON m = NULL;
	int rc;

	if (body != NULL && body[0] != '\0')
		json_array_append_new(blocks, section(body, NULL));
	json_array_append_new(blocks, buttons(told, again ? event : NULL, first_of(first)));
	m = message(at, text, blocks);
	if (ts[0] != '\0') {
		json_put(m, "ts", ts);
		json_put(m, "channel", json_word(first, "channel"));
		json_object_del(m, "thread_ts");
	}
	rc = post(c, ts[0] != '\0' ? "chat.update" : "chat.postMessage", m, NULL);
	if (rc == ERR_NOT_FOUND)
		rc = OK;
	if (rc == OK)
		rc = react(c, at, "reactions.remove", "hourglass_flowing_sand");
	if (rc == OK)
		rc = react(c, at, "reactions.add", good ? "white_check_mark" : "x");
	if (rc == OK)
		json_array_remove(pending, 0);
	return rc;
}

/* The message says how far it is. What does not arrive is not missed: more follows. */
static int say_progress(struct slack_call *c, struct told *told)
{
	const json_t *first = json_array_get(pending_of(told), 0), *at = json_object_get(first, "at");
	AUTO_STR line = slack_escape(told->text != NULL ? told->text : "", BLOCK_MAX / 2);
	AUTO_STR text = str_printf("On it: <%s|watch me>.\n%s", told->agent_url, line);
	AUTO_STR mark = str_printf("bullpen-%s", json_word(first, "event"));
	AUTO_JSON m = NULL;

	if (first == NULL || is_quiet(at))
		return OK;
	m = message(at, text, json_pack("[o, o]", section(text, mark), buttons(told, NULL, first_of(first))));
	json_put(m, "ts", json_word(first, "ts"));
	json_put(m, "channel", json_word(first, "channel"));
	json_object_del(m, "thread_ts");
	IGNORE(slack_post(c, "chat.update", m, NULL));
	return OK;
}

static int say_alone(struct slack_call *c, const struct told *told)
{
	AUTO_STR text = slack_escape(told->text != NULL ? told->text : "", TEXT_MAX);
	AUTO_JSON m = message(told->at, text, NULL);
	int rc;

	json_put(m, "user", at_word(told->at, "user"));
	rc = post(c, "chat.postEphemeral", m, NULL);
	/* Somebody who is not there any more hears nothing. */
	return rc == ERR_INVALID && c->error != NULL && strcmp(c->error, "user_not_in_channel") == 0 ? OK : rc;
}

int slack_tell(struct triggers *t, const char *place, struct told *told, struct why *why)
{
	struct slack_call c = {.slack = triggers_slack(t), .place = place, .deadline_mono_ms = told->deadline_mono_ms};
	int rc;

	if (c.slack == NULL)
		return why_set(why, ERR_INVALID, "Slack is not in the settings any more");
	switch (told->tell) {
	case TELL_STARTED:
	case TELL_QUEUED:
		rc = say_begin(&c, told);
		break;
	case TELL_ENDED:
		rc = say_end(&c, told);
		break;
	case TELL_PROGRESS:
		rc = say_progress(&c, told);
		break;
	default:
		rc = say_alone(&c, told);
	}
	/* A token is put right by people, so it is tried again. */
	if (rc == ERR_UNAUTHORIZED)
		rc = ERR_NET;
	told->retry_ms = c.retry_ms;
	return rc == OK ? OK : why_set(why, rc, "%s", c.why.text);
}
