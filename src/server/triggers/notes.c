/* What is said at a surface: rows of the outbox, in order for each agent. What was said before is kept with the
 * conversation, so that a note can be changed instead of said again. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/notices/notices.h"
#include "server/triggers/surface.h"
#include <string.h>

#define BEFORE_LEASE_END_MS 5000

int note_add(struct tx *tx, const char *subject, const json_t *payload, int64_t now_ms)
{
	AUTO_STR text = json_text(payload);

	return outbox_add_in_order(tx, NOTICE_KIND, subject, text, now_ms);
}

struct conversation {
	char *surface, *place;
	json_t *at, *said;
};

static void conversation_fini(struct conversation *c)
{
	str_free(&c->surface);
	str_free(&c->place);
	json_drop(&c->at);
	json_drop(&c->said);
}

static int conversation_load(struct store *st, const char *agent_id, struct conversation *ret)
{
	AUTO(tx) tx = NULL;
	AUTO(query) q = NULL;
	int rc = tx_begin(st, TX_READ, &tx);

	if (rc == OK)
		rc = tx_query(
		    tx, &q, "SELECT surface, place, at, said FROM conversations WHERE agent_id = $1", "s", agent_id);
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	ret->surface = str_dup(query_str(q, 0));
	ret->place = str_dup(query_str(q, 1));
	IGNORE(json_parse(query_str(q, 2), strlen(query_str(q, 2)), &ret->at, NULL));
	if (!query_is_null(q, 3))
		IGNORE(json_parse(query_str(q, 3), strlen(query_str(q, 3)), &ret->said, NULL));
	return OK;
}

static int keep_said(struct store *st, const char *agent_id, const json_t *said)
{
	AUTO(tx) tx = NULL;
	AUTO_STR text = json_text(said);
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = tx_exec(tx, "UPDATE conversations SET said = $2 WHERE agent_id = $1", "ss", agent_id, text);
	return rc == OK ? tx_commit(&tx) : rc;
}

static const char *word_or_null(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static enum tell tell_of(const json_t *note)
{
	const char *word = json_word(note, "tell");

	return strcmp(word, "seen") == 0       ? TELL_SEEN
	       : strcmp(word, "alive") == 0    ? TELL_ALIVE
	       : strcmp(word, "started") == 0  ? TELL_STARTED
	       : strcmp(word, "queued") == 0   ? TELL_QUEUED
	       : strcmp(word, "ended") == 0    ? TELL_ENDED
	       : strcmp(word, "progress") == 0 ? TELL_PROGRESS
					       : TELL_REJECTED;
}

static bool is_running(struct store *st, const char *agent_id)
{
	AUTO(tx) tx = NULL;
	int64_t n = 0;

	return tx_begin(st, TX_READ, &tx) == OK &&
	       tx_query_int(tx, &n,
		   "SELECT COUNT(*) FROM runs WHERE agent_id = $1 AND status IN ('CREATING', 'RUNNING')", "s",
		   agent_id) == OK &&
	       n > 0;
}

/* Not in order: it would hold back what is to be said meanwhile. */
static int come_again(struct store *st, const char *agent_id, int64_t after_ms)
{
	AUTO(tx) tx = NULL;
	int64_t now = clock_wall_ms();
	int rc = tx_begin(st, TX_WRITE, &tx);

	if (rc == OK)
		rc = outbox_add(tx, NOTICE_KIND, agent_id, "{\"tell\":\"alive\"}", now, now + after_ms, NULL);
	return rc == OK ? tx_commit(&tx) : rc;
}

/* Whether the run's last word was a question: then it is what the run says, and the tool's argument. */
static int find_question(struct store *st, struct told *told)
{
	AUTO(tx) tx = NULL;
	AUTO_STR args = NULL;
	AUTO_JSON json = NULL;
	int rc;

	if (told->tell != TELL_ENDED || told->run_id == NULL || told->result == NULL)
		return OK;
	rc = tx_begin(st, TX_READ, &tx);
	if (rc == OK)
		rc = tx_query_text(tx, &args,
		    "SELECT args FROM tool_calls WHERE loop_id = $1 AND name = 'ask_question' AND outcome = 'success' "
		    "ORDER BY step DESC, idx DESC LIMIT 1",
		    "s", told->run_id);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	if (args != NULL && json_parse(args, strlen(args), &json, NULL) == OK)
		told->asks = strcmp(json_word(json, "question"), told->result) == 0;
	return OK;
}

int send_note(void *ctx, const struct outbox_item *item, struct why *why)
{
	struct triggers *t = ctx;
	struct store *st = triggers_cfg(t)->store;
	__attribute__((cleanup(conversation_fini))) struct conversation c = {0};
	AUTO_JSON note = NULL;
	AUTO_JSON before = NULL;
	AUTO_STR url = NULL;
	const struct surface *surface;
	struct told told = {.deadline_mono_ms = item->deadline_mono_ms - BEFORE_LEASE_END_MS};
	int rc = json_parse(item->payload, strlen(item->payload), &note, why);

	if (rc != OK)
		return ERR_INVALID;
	told.tell = tell_of(note);
	if (told.tell == TELL_ALIVE && !is_running(st, item->subject))
		return OK;
	if (told.tell != TELL_REJECTED && told.tell != TELL_SEEN) {
		rc = conversation_load(st, item->subject, &c);
		if (rc == ERR_EMPTY)
			return why_set(why, ERR_INVALID, "the conversation is gone");
		if (rc != OK)
			return rc;
		told.agent_id = item->subject;
		told.agent_url = url = inside_agent_url(triggers_api(t), item->subject);
	} else {
		c.surface = str_dup(json_word(note, "surface"));
		c.place = str_dup(json_word(note, "place"));
	}
	surface = surface_named(c.surface);
	if (surface == NULL)
		return why_set(why, ERR_INVALID, "the surface %s is not known here", c.surface);
	if (c.said == NULL)
		c.said = json_object();
	before = json_deep_copy(c.said);
	told.at = json_object_get(note, "at") != NULL ? json_object_get(note, "at") : c.at;
	told.said = c.said;
	told.text = word_or_null(note, "text");
	told.event = word_or_null(note, "event");
	told.id = strncmp(item->id, "out-", 4) == 0 ? item->id + 4 : item->id;
	told.again = item->attempt > 1;
	told.run_id = word_or_null(note, "run");
	told.status = word_or_null(note, "status");
	told.result = word_or_null(note, "result");
	told.error = word_or_null(note, "error");
	told.pull_url = word_or_null(note, "pullUrl");
	told.branch = word_or_null(note, "branch");
	rc = find_question(st, &told);
	if (rc != OK)
		return rc;
	rc = surface->tell(t, c.place, &told, why);
	outbox_hold(item, rc == ERR_FULL ? told.retry_ms : 0);
	if (told.agent_id != NULL && !json_equal(before, c.said)) {
		int kept = keep_said(st, told.agent_id, c.said);

		rc = rc == OK ? kept : rc;
	}
	if (rc == OK && surface->alive_ms > 0 &&
	    (told.tell == TELL_STARTED || told.tell == TELL_QUEUED || told.tell == TELL_ALIVE))
		rc = come_again(st, item->subject, surface->alive_ms);
	return rc == ERR_NOT_FOUND || rc == ERR_DENIED || rc == ERR_UNAUTHORIZED ? ERR_INVALID : rc;
}
