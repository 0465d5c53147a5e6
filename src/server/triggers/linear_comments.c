/* Linear without agent sessions: a comment that mentions the app's user, or a word of the settings, is answered by a
 * reply, which is changed when the run ends. Workspaces that have sessions send both events for one comment; then the
 * session answers. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/triggers/linear_priv.h"
#include <string.h>

#define READ_MS 15000
#define SESSION_WAIT_MS 5000 /* so long after a comment its agent session may still come */
#define PENDING_MAX 50
#define BODY_MAX ((size_t)20 * 1024)

static const json_t *inner(const json_t *o, const char *key)
{
	return json_object_get(o, key);
}

bool linear_is_comment(const json_t *body)
{
	return strcmp(json_word(body, "type"), "Comment") == 0;
}

/* The comment that a thread of comments begins with. */
static char *root_of(const json_t *data)
{
	AUTO_STR parent = linear_id_in(data, "parentId");

	return parent[0] != '\0' ? TAKE(parent) : linear_id_in(data, "id");
}

/* Most comments are none of ours, and are not kept. */
void linear_accept_comment(const struct linear *l, const json_t *body, struct accepted *ret)
{
	const json_t *data = inner(body, "data");
	AUTO_STR id = linear_id_in(data, "id");
	AUTO_STR issue = linear_id_in(data, "issueId");
	AUTO_STR root = root_of(data);

	ret->event = str_dup("comment");
	ret->thread = str_printf("comment-%s", root);
	ret->ignored = !l->hears_comments || strcmp(json_word(body, "action"), "create") != 0 || id[0] == '\0' ||
		       issue[0] == '\0' || json_is_object(inner(data, "botActor")) ||
		       strchr(json_word(data, "body"), '@') == NULL;
}

int linear_read_comment(struct triggers *t, const json_t *body, struct asked *ret, struct why *why)
{
	const json_t *data = inner(body, "data");
	AUTO_STR id = linear_id_in(data, "id");
	AUTO_STR issue = linear_id_in(data, "issueId");
	AUTO_STR root = root_of(data);
	AUTO_STR self = NULL;
	AUTO_STR name = NULL;
	AUTO_STR display = NULL;
	int rc = linear_self(triggers_linear(t), clock_mono_ms() + READ_MS, &self, &name, &display, why);

	if (rc != OK)
		return rc;
	ret->account = linear_id_in(data, "userId");
	if (ret->account[0] == '\0' || strcmp(ret->account, self) == 0)
		return why_set(why, ERR_EMPTY, "a machine said it");
	ret->login = text_line(json_word(inner(data, "user"), "name"), 200);
	ret->trusted = ret->may_be_answered = true;
	ret->needs_mention = true;
	ret->names[0] = name[0] != '\0' ? str_printf("@%s", name) : NULL;
	ret->names[1] = display[0] != '\0' ? str_printf("@%s", display) : NULL;
	ret->text = str_dup(json_word(data, "body"));
	ret->at = json_pack("{s:s, s:s, s:s}", "issue", issue, "comment", id, "root", root);
	return OK;
}

struct claim {
	const struct inbox_row *row;
	const char *comment, *by; /* "comment/" or "session/", and the event's id */
	bool waits; /* a session of the comment may come yet */
	bool ours, by_reply;
};

static int claim_in(struct tx *tx, void *arg)
{
	struct claim *c = arg;
	AUTO_STR taken = NULL;
	int64_t sessions = 0, now = clock_wall_ms();
	int rc = tx_query_text(tx, &taken, "SELECT taken_by FROM linear_comments WHERE place = $1 AND comment = $2",
	    "ss", c->row->place, c->comment);

	c->ours = rc == OK && strcmp(taken, c->by) == 0;
	c->by_reply = rc == OK && text_has_prefix(taken, "comment/");
	c->waits = false;
	if (rc != ERR_EMPTY)
		return rc;
	if (text_has_prefix(c->by, "comment/") && now - c->row->received_at < SESSION_WAIT_MS) {
		rc = tx_query_int(tx, &sessions,
		    "SELECT COUNT(*) FROM linear_comments WHERE place = $1 AND taken_by LIKE 'session/%'", "s",
		    c->row->place);
		c->waits = rc == OK && sessions > 0;
		if (rc != OK || c->waits)
			return rc;
	}
	c->ours = true;
	return tx_exec(tx, "INSERT INTO linear_comments(place, comment, taken_by, taken_at) VALUES($1, $2, $3, $4)",
	    "sssi", c->row->place, c->comment, c->by, now);
}

int linear_claim_comment(
    struct triggers *t, const struct inbox_row *row, const char *comment, bool *ret_by_reply, struct why *why)
{
	AUTO_STR by = str_printf("%s/%s", strcmp(row->event, "comment") == 0 ? "comment" : "session", row->id);
	struct claim c = {.row = row, .comment = comment, .by = by};
	int rc = comment[0] != '\0' ? store_write(triggers_cfg(t)->store, claim_in, &c) : OK;

	if (rc != OK || comment[0] == '\0')
		return rc;
	if (c.waits)
		return why_set(why, ERR_NET, "an agent session of this comment may come");
	*ret_by_reply = c.by_reply;
	return c.ours ? OK : why_set(why, ERR_EMPTY, "another event of this comment is answered");
}

/* A reply with an id of ours: a second one with it is the same one. */
static int reply(struct linear *l, const struct told *told, const char *body, struct why *why)
{
	AUTO_JSON data = NULL;
	int rc = linear_ask(l,
	    "mutation($input: CommentCreateInput!) { commentCreate(input: $input) { success comment { id } } }",
	    json_pack("{s:{s:s, s:s, s:s, s:s}}", "input", "id", told->id, "issueId", json_word(told->at, "issue"),
		"parentId", json_word(told->at, "root"), "body", body),
	    told->deadline_mono_ms, &data, why);

	return rc == ERR_INVALID && strcasestr(why->text, "already") != NULL ? OK : rc;
}

static int change(struct linear *l, const struct told *told, const char *id, const char *body, struct why *why)
{
	AUTO_JSON data = NULL;

	return linear_ask(l,
	    "mutation($id: String!, $input: CommentUpdateInput!) { commentUpdate(id: $id, input: $input) { success } }",
	    json_pack("{s:s, s:{s:s}}", "id", id, "input", "body", body), told->deadline_mono_ms, &data, why);
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

static int say_begin(struct linear *l, struct told *told, struct why *why)
{
	json_t *pending = pending_of(told);
	AUTO_STR text =
	    str_printf("%s %s%s%s", told->tell == TELL_QUEUED ? "I go on with that:" : "I am on it:", told->agent_url,
		told->text != NULL ? "\n\n" : "", told->text != NULL ? told->text : "");
	int rc = reply(l, told, text, why);

	if (rc == OK && json_array_size(pending) < PENDING_MAX)
		json_array_append_new(pending, json_string(told->id));
	if (rc == OK && told->tell == TELL_STARTED)
		linear_move_issue(l, json_word(told->at, "issue"), told->deadline_mono_ms);
	return rc;
}

/* The reply that said that it began says how it ended; one that somebody has removed is written anew. */
static int say_end(struct linear *l, struct told *told, struct why *why)
{
	json_t *pending = pending_of(told);
	AUTO_STR first = str_dup(json_string_value(json_array_get(pending, 0)));
	AUTO_STR said = linear_ended_text(told);
	AUTO_STR cut = text_cut_middle(said, strlen(said), BODY_MAX, NULL);
	AUTO_STR text = str_printf("%s\n\n[What I did](%s)", cut, told->agent_url);
	int rc = first != NULL ? change(l, told, first, text, why) : ERR_INVALID;

	if (rc == ERR_INVALID)
		rc = reply(l, told, text, why);
	if (rc == OK)
		json_array_remove(pending, 0);
	return rc;
}

int linear_tell_comment(struct linear *l, struct told *told, struct why *why)
{
	switch (told->tell) {
	case TELL_STARTED:
	case TELL_QUEUED:
		return say_begin(l, told, why);
	case TELL_ENDED:
		return say_end(l, told, why);
	case TELL_REJECTED:
		return reply(l, told, told->text, why);
	default:
		return OK;
	}
}
