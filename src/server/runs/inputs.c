#include "server/runs/inputs.h"
#include "base/log.h"
#include "base/mem.h"
#include <string.h>

static const char *const kind_names[] = {[INPUT_ENV] = "env", [INPUT_MCP] = "mcp"};

/* What a row belongs to, so that it opens nowhere else. */
static char *input_place(const char *kind, const char *agent_id, const char *run_id)
{
	return str_printf("%s/%s/%s", kind, agent_id, run_id);
}

int input_store(struct tx *tx, const struct seal *seal, const char *agent_id, const char *run_id, enum input_kind kind,
    const json_t *value)
{
	const char *run = run_id != NULL ? run_id : "";
	AUTO_STR place = input_place(kind_names[kind], agent_id, run);
	AUTO_STR sealed = NULL;
	char *plain;

	if (value == NULL)
		return OK;
	plain = json_text(value);
	sealed = seal_text(seal, place, plain);
	str_wipe(&plain);
	return tx_exec(tx, "INSERT INTO agent_inputs(agent_id, run_id, kind, value) VALUES($1, $2, $3, $4)", "ssss",
	    agent_id, run, kind_names[kind], sealed);
}

int inputs_forget_run(struct tx *tx, const char *agent_id, const char *run_id)
{
	return tx_exec(tx, "DELETE FROM agent_inputs WHERE agent_id = $1 AND run_id = $2", "ss", agent_id, run_id);
}

int inputs_forget_agent(struct tx *tx, const char *agent_id)
{
	return tx_exec(tx, "DELETE FROM agent_inputs WHERE agent_id = $1", "s", agent_id);
}

void inputs_fini(struct inputs *in)
{
	json_drop(&in->env);
	json_drop(&in->mcp_servers);
	json_drop(&in->mcp_narrowing);
}

static int open_value(
    const struct seal *seal, const char *kind, const char *agent_id, const char *run, const char *sealed, json_t **ret)
{
	AUTO_STR place = input_place(kind, agent_id, run);
	char *plain = NULL;
	int rc = seal_open(seal, place, sealed, &plain);

	if (rc != OK)
		return rc;
	rc = json_parse(plain, strlen(plain), ret, NULL);
	str_wipe(&plain);
	if (rc == OK)
		return OK;
	log_error("store.row.damaged", "table=agent_inputs agent=%s kind=%s", agent_id, kind);
	return ERR_INTERNAL;
}

/* The agent's row comes first: its run_id is ''. */
static int take_row(const struct seal *seal, const char *agent_id, struct query *q, struct inputs *ret)
{
	const char *run = query_str(q, 0), *kind = query_str(q, 1);
	AUTO_JSON value = NULL;
	bool env = strcmp(kind, kind_names[INPUT_ENV]) == 0;
	int rc = open_value(seal, kind, agent_id, run, query_str(q, 2), &value);

	if (rc != OK)
		return rc;
	if (!env) {
		json_decref(ret->mcp_servers);
		ret->mcp_servers = TAKE(value);
	} else if (ret->env == NULL) {
		ret->env = TAKE(value);
	} else {
		json_object_update(ret->env, value);
	}
	return OK;
}

/* What cannot be read narrows to nothing: it was meant to narrow. */
static int load_narrowing(struct tx *tx, int64_t team_id, json_t **ret)
{
	AUTO(query) q = NULL;
	AUTO_JSON rules = NULL;
	const char *text;
	int rc = tx_query(tx, &q, "SELECT mcp_allow FROM teams WHERE id = $1", "i", team_id);

	if (rc == OK)
		rc = query_next(q);
	text = rc == OK ? query_text(q, 0) : NULL;
	if (text == NULL)
		return rc;
	if (json_parse(text, strlen(text), &rules, NULL) == OK && json_is_array(rules))
		*ret = json_pack("{s:O}", "allow", rules);
	else
		*ret = json_pack("{s:b}", "none", 1);
	return OK;
}

int inputs_load(struct tx *tx, const struct seal *seal, int64_t team_id, const char *agent_id, const char *run_id,
    struct inputs *ret)
{
	AUTO(query) q = NULL;
	int64_t sync = 0;
	int rc = tx_query(tx, &q,
	    "SELECT run_id, kind, value FROM agent_inputs WHERE agent_id = $1 AND run_id IN ('', $2)"
	    " AND kind IN ('env', 'mcp') ORDER BY run_id",
	    "ss", agent_id, run_id);

	*ret = (struct inputs){0};
	while (rc == OK && (rc = query_next(q)) == OK)
		rc = take_row(seal, agent_id, q, ret);
	query_free(&q);
	if (rc == ERR_EMPTY)
		rc = ret->env == NULL
			 ? OK
			 : tx_query_int(tx, &sync, "SELECT secret_sync FROM teams WHERE id = $1", "i", team_id);
	ret->sync = sync != 0;
	if (rc == OK)
		rc = load_narrowing(tx, team_id, &ret->mcp_narrowing);
	return rc == ERR_EMPTY ? ERR_INTERNAL : rc;
}

#define NAMES_TOLD 10

char *inputs_names(const json_t *env)
{
	struct strbuf b = STRBUF(16 * 1024);
	size_t n = 0, all = json_object_size(env);
	const char *name;
	json_t *v;

	json_object_foreach((json_t *)env, name, v)
	{
		if (n < NAMES_TOLD)
			strbuf_addf(&b, "%s%s", n == 0 ? "" : ", ", name);
		n++;
	}
	if (all > NAMES_TOLD)
		strbuf_addf(&b, " and %zu more", all - NAMES_TOLD);
	return strbuf_take(&b);
}
