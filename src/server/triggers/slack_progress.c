/* How far a run is, in one line: its plan, and the step that it does. */
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/todos.h"
#include "server/triggers/slack_priv.h"
#include <string.h>

#define STATUS_BYTES 300

static void add_plan(struct strbuf *b, const json_t *todos)
{
	const json_t *item;
	const char *now = NULL;
	size_t i, done = 0, n = json_array_size(todos);

	json_array_foreach(todos, i, item)
	{
		done += strcmp(json_word(item, "status"), "completed") == 0;
		if (now == NULL && strcmp(json_word(item, "status"), "in_progress") == 0)
			now = json_word(item, "content");
	}
	if (n == 0)
		return;
	AUTO_STR line = text_line(now != NULL ? now : "", STATUS_BYTES / 2);

	IGNORE(strbuf_addf(b, "%zu of %zu done%s%s", done, n, now != NULL ? ", now: " : "", line));
}

static int add_step(struct tx *tx, const char *run_id, struct strbuf *b)
{
	AUTO(query) q = NULL;
	int rc = tx_query(tx, &q,
	    "SELECT step, name FROM tool_calls WHERE loop_id = $1 ORDER BY step DESC, idx DESC LIMIT 1", "s", run_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	AUTO_STR name = text_line(query_str(q, 1), 60);

	IGNORE(strbuf_addf(b, "%sstep %lld: %s", b->len > 0 ? " · " : "", (long long)query_int(q, 0), name));
	return OK;
}

/* A run's first loop has its id. */
int slack_describe(struct tx *tx, const char *run_id, char **ret)
{
	AUTO_JSON todos = NULL;
	struct strbuf b = STRBUF(STATUS_BYTES);
	int rc = todos_load(tx, run_id, &todos);

	if (rc == OK) {
		add_plan(&b, todos);
		rc = add_step(tx, run_id, &b);
	}
	*ret = strbuf_take(&b);
	return rc;
}
