#include "server/runs/subagents.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include "server/runs/tools.h"
#include <string.h>
#include <strings.h>

#define FILES_MAX 500
#define OFFER_MAX ((size_t)256 * 1024)

/* A subagent that has its own purpose hands nothing on. */
static bool offers_reading(const json_t *tool)
{
	return strcmp(json_word(tool, "class"), "read") == 0;
}

static bool offers_shell(const json_t *tool)
{
	return offers_reading(tool) || strcmp(json_word(tool, "name"), "run_terminal_cmd") == 0;
}

static const struct builtin_subagent builtin[] = {
    {.name = "generalPurpose",
	.what = "work of several steps, with the tools that you have yourself",
	.system =
	    "Do the task completely, and nothing besides it. Look before you change: read the files that matter and "
	    "follow their style. Check your work with what the project has for it (build, tests, linter), and say "
	    "what you ran and what came of it."},
    {.name = "explore",
	.what = "finding and explaining code; it only reads",
	.system =
	    "You find things out in code and change nothing. Search widely first (names, patterns, several spellings), "
	    "then read what matters, and follow calls to where the work is done. Report facts: paths with line "
	    "numbers, how the pieces work together, and what you looked for and did not find. Quote code only where a "
	    "sentence would not do.",
	.read_only = true,
	.offers = offers_reading},
    {.name = "shell",
	.what = "commands in sequence whose output is long; it runs commands and reads files",
	.system =
	    "You run commands and make sense of their output. Run what the task names, one step after the other; when "
	    "one "
	    "fails, find out why before you try another way, and never hide a failure. Edit no files. Report each "
	    "command that mattered with its exit status, and of its output only the lines that count.",
	.offers = offers_shell},
    {.name = "debug",
	.what = "reproducing a fault and finding its cause",
	.system =
	    "You find the cause of a fault. First reproduce it with the smallest command that shows it. Then narrow it "
	    "down: form a guess, choose the observation that would refute it, make it, and go on until one cause is "
	    "left. What you add for observing you take out again. Mend the fault only if the task asks for it. Report "
	    "how to reproduce it, the cause with path and line, the evidence, and how it would be mended."},
};

const struct builtin_subagent *subagent_builtin(const char *name)
{
	for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
		if (strcasecmp(builtin[i].name, name) == 0)
			return &builtin[i];
	return NULL;
}

char *subagents_builtin_names(void)
{
	struct strbuf b = STRBUF(1024);

	for (size_t i = 0; i < ARRAY_LEN(builtin); i++)
		strbuf_addf(&b, "%s%s", i > 0 ? ", " : "", builtin[i].name);
	return strbuf_take(&b);
}

int subagents_store(struct tx *tx, const char *agent_id, const json_t *list)
{
	AUTO_STR text = NULL;

	if (json_array_size(list) == 0)
		return OK;
	text = json_text(list);
	return tx_exec(tx, "INSERT INTO agent_inputs(agent_id, run_id, kind, value) VALUES($1, '', 'subagents', $2)",
	    "ss", agent_id, text);
}

int subagents_load(struct tx *tx, const char *agent_id, json_t **ret)
{
	AUTO_STR text = NULL;
	int rc = tx_query_text(tx, &text,
	    "SELECT value FROM agent_inputs WHERE agent_id = $1 AND run_id = '' AND kind = 'subagents'", "s", agent_id);

	if (rc == OK && (json_parse(text, strlen(text), ret, NULL) != OK || !json_is_array(*ret))) {
		/* A damaged row costs the agent its subagents, and nothing else. */
		log_error("store.row.damaged", "table=agent_inputs key=%s column=value", log_quote(agent_id));
		json_drop(ret);
	}
	if ((rc == OK || rc == ERR_EMPTY) && *ret == NULL)
		*ret = json_array();
	return rc == ERR_EMPTY ? OK : rc;
}

const json_t *subagents_find(const json_t *list, const char *name)
{
	size_t i;
	json_t *item;

	json_array_foreach((json_t *)list, i, item)
	{
		if (strcasecmp(json_word(item, "name"), name) == 0)
			return item;
	}
	return NULL;
}

void subagents_add_files(json_t *list, const json_t *session_info)
{
	size_t i;
	json_t *item;

	json_array_foreach(json_object_get(session_info, "agents"), i, item)
	{
		const char *name = json_word(item, "name");

		if (i < FILES_MAX && subagent_is_name(name) && !subagent_is_reserved(name) &&
		    json_word(item, "prompt")[0] != '\0' && subagents_find(list, name) == NULL)
			json_array_append(list, item);
	}
}

char *subagents_offer(const json_t *list)
{
	struct strbuf b = STRBUF(OFFER_MAX);
	size_t i;
	json_t *item;

	if (json_array_size(list) == 0)
		return NULL;
	strbuf_adds(
	    &b, "## Subagents\nBesides the built-in ones, these may be the subagent_type of a " TASK_TOOL ":\n");
	json_array_foreach((json_t *)list, i, item)
	    strbuf_addf(&b, "- %s: %s\n", json_word(item, "name"), json_word(item, "description"));
	return strbuf_take(&b);
}
