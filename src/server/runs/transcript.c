/* What was said in an agent's runs, as people read it: prompts and the model's texts, without tools. From the same rows
 * as the conversation that models are shown, but not cut: a compaction changes nothing here. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/runs.h"
#include <string.h>

#define SEGMENT_MAX ((size_t)4 * 1024 * 1024)

struct transcript {
	json_t *messages;
	int64_t turn; /* of the newest prompt: 0 for the first run of the agent */
	int64_t segment_step; /* where the text began that goes on; valid while `segment` has something */
	struct strbuf segment;
};

static void say(struct transcript *t, const char *id, const char *type, const char *text)
{
	json_array_append_new(t->messages, json_pack("{s:s, s:s, s:s}", "id", id, "type", type, "text", text));
}

static void end_segment(struct transcript *t)
{
	AUTO_STR id = str_printf("turn-%lld:step:%lld:assistant", (long long)t->turn, (long long)t->segment_step);

	if (t->segment.len > 0 && !text_is_blank(strbuf_str(&t->segment)))
		say(t, id, "assistant_message", strbuf_str(&t->segment));
	strbuf_clear(&t->segment);
}

static void add_prompt(struct transcript *t, struct query *q)
{
	AUTO_STR id = NULL;

	end_segment(t);
	t->turn = query_int(q, 0) - 1;
	id = str_printf("turn-%lld:user", (long long)t->turn);
	say(t, id, "user_message", query_str(q, 1));
}

/* A step without calls that did not end the run was cut off: the next one goes on with its text. */
static void add_step(struct transcript *t, struct query *q)
{
	if (t->segment.len == 0)
		t->segment_step = query_int(q, 2);
	IGNORE(strbuf_adds(&t->segment, query_str(q, 3)));
	if (query_int(q, 4) > 0)
		end_segment(t);
}

int agent_transcript(struct tx *tx, const char *agent_id, json_t **ret)
{
	AUTO_JSON messages = json_array();
	struct transcript t = {.messages = messages, .turn = -2, .segment = STRBUF(SEGMENT_MAX)};
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT l.seq, COALESCE(x.prompt, ''), s.step, COALESCE(s.text, ''), COALESCE(s.calls, 0) FROM loops l"
	    " LEFT JOIN loop_texts x ON x.loop_id = l.id LEFT JOIN steps s ON s.loop_id = l.id"
	    " WHERE l.conversation_id = $1 ORDER BY l.seq, s.step",
	    "s", agent_id);

	while (rc == OK && (rc = query_next(q)) == OK) {
		if (query_int(q, 0) - 1 != t.turn)
			add_prompt(&t, q);
		if (!query_is_null(q, 2))
			add_step(&t, q);
	}
	end_segment(&t);
	strbuf_fini(&t.segment);
	if (rc == ERR_EMPTY)
		*ret = TAKE(messages);
	return rc == ERR_EMPTY ? OK : rc;
}
