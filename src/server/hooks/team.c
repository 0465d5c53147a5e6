#include "server/hooks/team.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>

#define ENTRIES_MAX 200
#define FILES_MAX 50

void team_hooks_free(struct team_hooks **tp)
{
	struct team_hooks *t = TAKE(*tp);

	if (t == NULL)
		return;
	free(t->hash);
	free(t->content);
	free(t->updated_by);
	free(t);
}

int team_hooks_load(struct tx *tx, int64_t team_id, struct team_hooks **ret)
{
	AUTO(query) q = NULL;
	int rc = tx_query(
	    tx, &q, "SELECT hash, content, updated_at, updated_by FROM team_hooks WHERE team_id = $1", "i", team_id);

	*ret = NULL;
	if (rc == OK)
		rc = query_next(q);
	if (rc != OK)
		return rc == ERR_EMPTY ? OK : rc;
	*ret = NEW(struct team_hooks);
	**ret = (struct team_hooks){.hash = str_dup(query_str(q, 0)),
	    .content = str_dup(query_str(q, 1)),
	    .updated_at = query_int(q, 2),
	    .updated_by = str_dup(query_str(q, 3))};
	return OK;
}

static bool is_system(const json_t *word)
{
	static const char *const systems[] = {"linux", "macos", "windows"};

	for (size_t i = 0; json_is_string(word) && i < ARRAY_LEN(systems); i++)
		if (strcmp(json_string_value(word), systems[i]) == 0)
			return true;
	return false;
}

/* A word, or several. */
static bool are_systems(const json_t *os)
{
	for (size_t i = 0; i < json_array_size(os); i++)
		if (!is_system(json_array_get(os, i)))
			return false;
	return is_system(os) || json_array_size(os) > 0;
}

static int check_entry(const char *event, size_t i, const json_t *e, struct why *why)
{
	const json_t *command = json_object_get(e, "command"), *timeout = json_object_get(e, "timeout"),
		     *matcher = json_object_get(e, "matcher"), *closed = json_object_get(e, "failClosed"),
		     *limit = json_object_get(e, "loop_limit"), *type = json_object_get(e, "type");

	if (!json_is_object(e) || !json_is_string(command) || text_is_blank(json_string_value(command)))
		return why_set(why, ERR_INVALID, "hooks.%.80s[%zu].command must be a text that is not empty", event, i);
	if (type != NULL && (!json_is_string(type) || strcmp(json_string_value(type), "command") != 0))
		return why_set(why, ERR_INVALID,
		    "hooks.%.80s[%zu].type must be \"command\": other hooks never run on a worker", event, i);
	if (timeout != NULL && (!json_is_number(timeout) || json_number_value(timeout) <= 0))
		return why_set(why, ERR_INVALID, "hooks.%.80s[%zu].timeout must be a number of seconds", event, i);
	if (matcher != NULL && !json_is_string(matcher))
		return why_set(why, ERR_INVALID, "hooks.%.80s[%zu].matcher must be a regular expression", event, i);
	if (closed != NULL && !json_is_boolean(closed))
		return why_set(why, ERR_INVALID, "hooks.%.80s[%zu].failClosed must be true or false", event, i);
	if (json_object_get(e, "os") != NULL && !are_systems(json_object_get(e, "os")))
		return why_set(why, ERR_INVALID,
		    "hooks.%.80s[%zu].os must be \"linux\", \"macos\" or \"windows\", or an array of them", event, i);
	if (limit != NULL && !json_is_null(limit) && (!json_is_integer(limit) || json_integer_value(limit) < 0))
		return why_set(
		    why, ERR_INVALID, "hooks.%.80s[%zu].loop_limit must be a whole number or null", event, i);
	return OK;
}

static int check_event(const char *event, const json_t *list, size_t *n, struct why *why)
{
	static const char *const events[] = {"sessionStart", "sessionEnd", "beforeSubmitPrompt", "preToolUse",
	    "postToolUse", "postToolUseFailure", "beforeShellExecution", "afterShellExecution", "beforeMCPExecution",
	    "afterMCPExecution", "beforeReadFile", "afterFileEdit", "subagentStart", "subagentStop", "preCompact",
	    "afterAgentResponse", "afterAgentThought", "stop"};
	bool known = false;
	int rc = OK;

	for (size_t i = 0; i < ARRAY_LEN(events); i++)
		known |= strcmp(events[i], event) == 0;
	if (!known)
		return why_set(why, ERR_INVALID, "hooks.%.80s is not an event that happens on a worker", event);
	if (!json_is_array(list))
		return why_set(why, ERR_INVALID, "hooks.%.80s must be an array", event);
	for (size_t i = 0; rc == OK && i < json_array_size(list); i++)
		rc = check_entry(event, i, json_array_get(list, i), why);
	*n += json_array_size(list);
	return rc;
}

static int check_files(const json_t *files, struct why *why)
{
	const char *name;
	json_t *text;

	if (json_object_size(files) > FILES_MAX)
		return why_set(why, ERR_INVALID, "files: at most %d are possible", FILES_MAX);
	json_object_foreach((json_t *)(uintptr_t)files, name, text)
	{
		if (name[0] == '.' || !text_is_token(name, "._-", 128) || strcmp(name, "hooks.json") == 0)
			return why_set(why, ERR_INVALID,
			    "files: '%.100s' must be a name of A-Z a-z 0-9 . _ - that does not begin with a dot", name);
		if (!json_is_string(text))
			return why_set(why, ERR_INVALID, "files.%.100s must be a text", name);
	}
	return OK;
}

static int check_content(const json_t *content, struct why *why)
{
	const json_t *hooks = json_object_get(content, "hooks"), *files = json_object_get(content, "files");
	const char *event;
	json_t *list;
	size_t n = 0;
	int rc = OK;

	if (hooks != NULL && !json_is_object(hooks))
		return why_set(why, ERR_INVALID, "hooks must be an object from event to array");
	json_object_foreach((json_t *)(uintptr_t)hooks, event, list)
	{
		if (rc == OK)
			rc = check_event(event, list, &n, why);
	}
	if (rc == OK && n > ENTRIES_MAX)
		return why_set(why, ERR_INVALID, "hooks: at most %d are possible", ENTRIES_MAX);
	if (rc == OK && files != NULL && !json_is_object(files))
		return why_set(why, ERR_INVALID, "files must be an object from name to text");
	return rc == OK ? check_files(files, why) : rc;
}

int team_hooks_store(struct tx *tx, int64_t team_id, const json_t *content, const char *by, struct why *why)
{
	AUTO_JSON kept = json_object();
	AUTO_STR text = NULL;
	char hash[SHA256_HEX_LEN];
	json_t *hooks = json_object_get(content, "hooks"), *files = json_object_get(content, "files");
	int rc = check_content(content, why);

	if (rc != OK)
		return rc;
	if (json_object_size(hooks) == 0 && json_object_size(files) == 0)
		return tx_exec(tx, "DELETE FROM team_hooks WHERE team_id = $1", "i", team_id);
	json_put_new(kept, "hooks", hooks != NULL ? json_incref(hooks) : json_object());
	json_put_new(kept, "files", files != NULL ? json_incref(files) : json_object());
	text = json_text(kept);
	if (strlen(text) > TEAM_HOOKS_MAX)
		return why_set(why, ERR_INVALID, "hooks and files together are larger than 1 MiB");
	sha256_hex(text, strlen(text), hash);
	return tx_exec(tx,
	    "INSERT INTO team_hooks(team_id, hash, content, updated_at, updated_by) VALUES($1, $2, $3, $4, $5)"
	    " ON CONFLICT(team_id) DO UPDATE SET hash = excluded.hash, content = excluded.content,"
	    " updated_at = excluded.updated_at, updated_by = excluded.updated_by",
	    "issis", team_id, hash, text, clock_wall_ms(), by);
}

json_t *team_hooks_facts(const struct team_hooks *t, bool whole)
{
	json_t *j = json_object();

	json_put(j, "hash", t->hash);
	if (whole)
		json_put(j, "content", t->content);
	return j;
}
