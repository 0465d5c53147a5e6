/* The tool `await`: reports of subagents that work in the background. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/control_tool.h"
#include <string.h>
#include <time.h>

#define IDS_MAX 32
#define TIMEOUT_MAX_MS (600 * 1000)
#define LOOK_MS 200
#define TEXT_MAX ((size_t)30 * 1024) /* of all reports together: the model is told 32 KiB of a result */

/* A run that is over was the end of what worked behind it. ERR_EMPTY: no subagent of that id worked in the background.
 */
static int look(struct tx *tx, const struct control_call *c, const char *id, size_t text_max, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO_STR cut = NULL;
	const char *text;
	bool done, over;
	int rc = tx_query(tx, &q,
	    "SELECT b.state, b.text, r.status FROM background_loops b JOIN runs r ON r.id = b.run_id JOIN tool_calls c "
	    "ON"
	    " c.id = b.call_id WHERE b.conversation_id = $1 AND r.agent_id = $2 AND c.outcome = 'success'"
	    " ORDER BY b.created_at DESC, b.loop_id DESC LIMIT 1",
	    "ss", id, c->agent_id);

	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc;
	done = strcmp(query_str(q, 0), "done") == 0;
	over = strcmp(query_str(q, 2), "RUNNING") != 0 && strcmp(query_str(q, 2), "CREATING") != 0;
	*ret = json_pack("{s:s, s:s}", "id", id, "status", done || over ? "done" : "running");
	text = done ? query_str(q, 1) : "(Its run ended before it did, and it with the run.)";
	cut = text_cut_middle(text, strlen(text), text_max, NULL);
	if (done || over)
		json_put(*ret, "text", cut);
	return OK;
}

/* ERR_INVALID with `why` for an id that is none. *ret_all: none is running. */
static int look_at_all(const struct control_call *c, const json_t *ids, json_t **ret, bool *ret_all, struct why *why)
{
	AUTO(tx) tx = NULL;
	AUTO_JSON items = json_array();
	size_t i, n = json_array_size(ids);
	json_t *id;
	int rc = tx_begin(c->store, TX_READ, &tx);

	*ret_all = true;
	json_array_foreach((json_t *)ids, i, id)
	{
		json_t *item = NULL;

		if (rc == OK)
			rc = look(tx, c, json_string_value(id), TEXT_MAX / n, &item);
		if (rc == ERR_EMPTY)
			return why_set(why, ERR_INVALID,
			    "'ids[%zu]' must be the agentId of a task that was called with run_in_background; '%.60s' "
			    "is "
			    "none. A "
			    "background shell cannot be awaited here: read its log, or wait for its pid with "
			    "run_terminal_cmd "
			    "(tail --pid=PID -f /dev/null)",
			    i, json_string_value(id));
		if (rc != OK)
			return rc;
		if (strcmp(json_string_value(json_object_get(item, "status")), "running") == 0)
			*ret_all = false;
		json_array_append_new(items, item);
	}
	*ret = TAKE(items);
	return rc;
}

struct telling {
	const char *agent_id;
	const json_t *items;
};

/* What is told here is not told again before the run ends. */
static int mark_told(struct tx *tx, void *arg)
{
	const struct telling *t = arg;
	size_t i;
	json_t *item;
	int rc = OK;

	json_array_foreach((json_t *)t->items, i, item)
	{
		if (rc == OK && strcmp(json_string_value(json_object_get(item, "status")), "done") == 0)
			rc = tx_exec(tx,
			    "UPDATE background_loops SET told = 1 WHERE conversation_id = $1 AND state = 'done' AND "
			    "run_id IN"
			    " (SELECT id FROM runs WHERE agent_id = $2)",
			    "ss", json_string_value(json_object_get(item, "id")), t->agent_id);
	}
	return rc;
}

static char *words_of(const json_t *items)
{
	struct strbuf b = STRBUF((size_t)64 * 1024);
	size_t i;
	json_t *item;

	json_array_foreach((json_t *)items, i, item)
	{
		const char *text = json_string_value(json_object_get(item, "text"));

		strbuf_addf(&b, "%s## %s: %s", i > 0 ? "\n\n" : "", json_string_value(json_object_get(item, "id")),
		    json_string_value(json_object_get(item, "status")));
		if (text != NULL)
			strbuf_addf(&b, "\n%s", text);
	}
	return strbuf_take(&b);
}

static int check_await(const json_t *args, int64_t *ret_timeout, struct why *why)
{
	const json_t *ids = json_object_get(args, "ids"), *timeout = json_object_get(args, "timeoutMs");
	size_t i;
	json_t *id;

	*ret_timeout = TIMEOUT_MAX_MS;
	if (json_array_size(ids) == 0 || json_array_size(ids) > IDS_MAX)
		return why_set(why, ERR_INVALID, "'ids' must be a list of 1 to %d ids", IDS_MAX);
	json_array_foreach((json_t *)ids, i, id)
	{
		if (!json_is_string(id))
			return why_set(why, ERR_INVALID, "'ids[%zu]' must be a text", i);
	}
	if (timeout == NULL || json_is_null(timeout))
		return OK;
	*ret_timeout = json_integer_value(timeout);
	if (!json_is_integer(timeout) || *ret_timeout < 0 || *ret_timeout > TIMEOUT_MAX_MS)
		return why_set(why, ERR_INVALID, "'timeoutMs' must be a number from 0 to %d", TIMEOUT_MAX_MS);
	return OK;
}

static void await_run(struct control_call *c)
{
	const json_t *ids = json_object_get(c->args, "ids");
	AUTO_JSON items = NULL;
	AUTO_STR words = NULL;
	struct telling telling = {.agent_id = c->agent_id};
	struct why why = {0};
	int64_t timeout, until;
	bool all = false;
	int rc = check_await(c->args, &timeout, &why);

	until = MIN(clock_mono_ms() + timeout, c->deadline_ms);
	while (rc == OK && (rc = look_at_all(c, ids, &items, &all, &why)) == OK && !all && clock_mono_ms() < until &&
	       !control_call_is_over(c)) {
		json_drop(&items);
		nanosleep(&(struct timespec){.tv_nsec = LOOK_MS * 1000000L}, NULL); /* interval of polling */
	}
	telling.items = items;
	if (rc == OK)
		rc = store_write(c->store, mark_told, &telling);
	if (rc == ERR_INVALID)
		control_call_fail(c, "invalid_arguments", "await: %s", why.text);
	else if (rc != OK)
		control_call_fail(c, "unavailable", "await: what became of them cannot be read now; try again");
	if (rc != OK)
		return;
	words = words_of(items);
	control_call_succeed(c, json_pack("{s:O}", "items", items), words);
}

static const struct control_tool await_tool = {
    .name = "await",
    .description =
	"Waits for subagents that you started with run_in_background, and brings their reports. Answers when all "
	"of them are done, or when the time is over: then some are still running.",
    .parameters = "{\"type\":\"object\",\"required\":[\"ids\"],\"properties\":{"
		  "\"ids\":{\"type\":\"array\",\"items\":{\"type\":\"string\"},\"description\":\"agentIds of such "
		  "tasks\"},"
		  "\"timeoutMs\":{\"type\":\"integer\",\"description\":\"how long at most, up to 600000, which is the "
		  "default; 0 only looks\"}}}",
    .class = "read",
    .sdk_type = "",
    .arg_aliases = "{\"timeout_ms\":\"timeoutMs\",\"timeout\":\"timeoutMs\"}",
    .own_loop_only = true,
    .repeatable = true,
    .run = await_run,
};
CONTROL_TOOL(await_tool);
