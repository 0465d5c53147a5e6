#include "agent/cli/find.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <string.h>

#define SEARCH_MAX 1000

void target_fini(struct target *t)
{
	str_free(&t->agent_id);
	str_free(&t->run_id);
}

int each_agent(
    struct client *c, bool archived, size_t max, int (*fn)(void *ctx, const json_t *agent), void *ctx, int *ret_status)
{
	AUTO_STR cursor = NULL;
	size_t seen = 0;

	do {
		AUTO_STR path = str_printf("/v1/agents?limit=%zu%s%s%s", MIN(max - seen, (size_t)100),
		    archived ? "" : "&includeArchived=false", cursor != NULL ? "&cursor=" : "",
		    cursor != NULL ? cursor : "");
		AUTO_JSON page = NULL;
		json_t *agent;
		size_t i;
		int rc = client_call(c, "GET", path, NULL, &page, ret_status);

		if (rc != OK)
			return rc;
		json_array_foreach(json_object_get(page, "items"), i, agent)
		{
			seen++;
			rc = fn(ctx, agent);
			if (rc != OK)
				return rc;
		}
		str_set(&cursor, json_string_value(json_object_get(page, "nextCursor")));
	} while (cursor != NULL && seen < max);
	return OK;
}

struct search {
	struct client *c;
	const char *run_id;
	struct target *ret;
	int *ret_status;
};

/* ERR_CONFLICT stops the walk: found. */
static int has_run(void *ctx, const json_t *agent)
{
	struct search *s = ctx;
	AUTO_STR path = str_printf("/v1/agents/%s/runs?limit=100", json_field(agent, "id"));
	AUTO_JSON page = NULL;
	json_t *run;
	size_t i;
	bool found = strcmp(json_field(agent, "latestRunId"), s->run_id) == 0;
	int rc;

	if (!found) {
		rc = client_call(s->c, "GET", path, NULL, &page, s->ret_status);
		if (rc != OK)
			return rc;
		json_array_foreach(json_object_get(page, "items"), i, run)
		{
			found = found || strcmp(json_field(run, "id"), s->run_id) == 0;
		}
	}
	if (!found)
		return OK;
	s->ret->agent_id = terminal_clean(json_field(agent, "id"), TERMINAL_LINE);
	s->ret->run_id = str_dup(s->run_id);
	return ERR_CONFLICT;
}

static int find_by_agent(struct client *c, const char *id, struct target *ret, int *ret_status)
{
	AUTO_STR path = str_printf("/v1/agents/%s", id);
	AUTO_JSON agent = NULL;
	int rc = client_call(c, "GET", path, NULL, &agent, ret_status);

	if (rc != OK)
		return rc;
	ret->agent_id = terminal_clean(json_field(agent, "id"), TERMINAL_LINE);
	ret->run_id = terminal_clean(json_field(agent, "latestRunId"), TERMINAL_LINE);
	return OK;
}

int find_target(struct client *c, const char *id, struct target *ret, int *ret_status)
{
	struct search s = {c, id, ret, ret_status};
	AUTO_STR lower = str_dup(id);
	int rc;

	id_lower(lower);
	s.run_id = lower;
	if (id_is(id, "bc-"))
		return find_by_agent(c, lower, ret, ret_status);
	if (!id_is(id, "run-")) {
		client_error("'%.80s' is neither an agent (bc-…) nor a run (run-…)", id);
		*ret_status = EXIT_USAGE;
		return ERR_INVALID;
	}
	rc = each_agent(c, true, SEARCH_MAX, has_run, &s, ret_status);
	if (rc == ERR_CONFLICT)
		return OK;
	if (rc == OK) {
		client_error("none of your %d newest agents has the run %s", SEARCH_MAX, lower);
		*ret_status = EXIT_REFUSED;
		rc = ERR_NOT_FOUND;
	}
	return rc;
}
