/* The MCP servers that the control plane asks for one run. */
#include "server/runs/remote_side.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/allow.h"
#include "mcp/result.h"
#include "mcp/tools.h"
#include "server/oauth/web.h"
#include "server/runs/mcp_tools.h"
#include "server/runs/run.h"
#include <string.h>

#define FIRST_WAIT_MS 15000
#define LOOK_MS 300 /* how often a run that waits looks whether it is over */

struct remote_side {
	struct remotes *remotes;
	char *agent_id;
	struct kept_owner owner;
	json_t *definitions;
	json_t *refused; /* entries (mcp/tools.h) of servers of either side that the team does not allow */
	json_t *last; /* as listed last; NULL: never */
};

/* "user:7" is a person; a service account has nobody's grants. */
static int64_t user_of(const char *owner)
{
	int64_t id = 0;

	return text_has_prefix(owner, "user:") && text_parse_int(owner + 5, 1, INT64_MAX, &id) == OK ? id : 0;
}

/* Canonical: no user, no fragment, no way upwards, and the first ? begins the query. malloc'ed, NULL: it has none. */
static char *plain_url(const json_t *definition)
{
	const char *url = json_string_value(json_object_get(definition, "url"));
	AUTO_STR whole = url != NULL ? web_canonical(url) : NULL;

	return whole != NULL ? str_ndup(whole, strcspn(whole, "?")) : NULL;
}

static json_t *list_now(struct remote_side *s, int64_t wait_ms)
{
	const struct remote_who who = {.owner = s->owner, .agent_id = s->agent_id};

	json_t *list = remote_list(s->remotes, &who, s->definitions, wait_ms, NULL), *entry;
	size_t i;

	json_array_foreach(list, i, entry)
	{
		AUTO_STR url = remote_side_url(s, json_string_value(json_object_get(entry, "name")));
		json_t *copy = json_copy(entry);

		json_put(copy, "url", url);
		json_array_set_new(list, i, copy);
	}
	json_array_extend(list, s->refused);
	return list;
}

/* What is left of the definitions, a new array. */
static json_t *allowed_of(const struct run *r, const json_t *definitions, json_t *refused)
{
	json_t *left = json_array(), *d;
	const json_t *tools;
	size_t i;

	json_array_foreach((json_t *)definitions, i, d)
	{
		const char *name = json_string_value(json_object_get(d, "name"));
		AUTO_JSON plain = json_copy(d);
		AUTO_STR url = plain_url(d);

		json_put(plain, "url", url);
		if (!mcp_is_narrowed_away(r->inputs.mcp_narrowing, name, plain, &tools))
			json_array_append(left, d);
		else if (name != NULL)
			json_array_append_new(refused, mcp_entry_new(name, "off", MCP_NOT_ALLOWED, NULL, NULL, NULL));
	}
	return left;
}

/* Of the request alone. What is asked from here never goes to a worker: it has secrets. */
static void split(const json_t *servers, json_t **ret_remote, json_t **ret_stdio)
{
	size_t i;
	json_t *d;

	*ret_remote = json_array();
	*ret_stdio = json_array();
	json_array_foreach((json_t *)servers, i, d)
	    json_array_append(json_object_get(d, "url") != NULL ? *ret_remote : *ret_stdio, d);
}

int remote_side_new(struct run *r, json_t **servers, struct remote_side **ret)
{
	const struct runs_config *cfg = &r->runs->cfg;
	const struct kept_owner owner = {.team_id = r->agent->team_id, .user_id = user_of(r->agent->owner)};
	json_t *remote = NULL, *stdio = NULL;
	AUTO_JSON definitions = NULL;
	AUTO_JSON refused = NULL;
	struct remote_side *s;
	int rc;

	rc = cfg->remotes != NULL ? remote_definitions(cfg->remotes, &owner, *servers, &remote, &stdio) : ERR_EMPTY;
	if (store_is_unavailable(rc))
		return rc;
	if (rc != OK) {
		if (rc != ERR_EMPTY)
			log_error("run.mcp_servers.unreadable", "run=%s error=%s", r->info->id, err_name(rc));
		split(*servers, &remote, &stdio);
	}
	json_decref(*servers);
	refused = json_array();
	*servers = allowed_of(r, stdio, refused);
	definitions = allowed_of(r, remote, refused);
	json_decref(stdio);
	json_decref(remote);
	if ((json_array_size(definitions) == 0 && json_array_size(refused) == 0) || cfg->remotes == NULL)
		return OK;
	s = NEW(struct remote_side);
	s->refused = TAKE(refused);
	s->remotes = cfg->remotes;
	s->agent_id = str_dup(r->agent->id);
	s->owner = owner;
	s->definitions = TAKE(definitions);
	json_decref(list_now(s, 0));
	*ret = s;
	return OK;
}

void remote_side_free(struct remote_side **side)
{
	struct remote_side *s = TAKE(*side);

	if (s == NULL)
		return;
	free(s->agent_id);
	json_decref(s->definitions);
	json_decref(s->refused);
	json_decref(s->last);
	free(s);
}

static bool any_starting(const json_t *list)
{
	size_t i;
	json_t *o;

	json_array_foreach((json_t *)list, i,
	    o) if (strcmp(json_string_value(json_object_get(o, "state")), "starting") == 0) return true;
	return false;
}

json_t *remote_side_list(struct remote_side *s, bool (*is_over)(void *ctx), void *ctx)
{
	int64_t until = clock_mono_ms() + (s != NULL && s->last == NULL ? FIRST_WAIT_MS : 0);
	json_t *list;

	if (s == NULL)
		return NULL;
	list = list_now(s, MIN(MAX(until - clock_mono_ms(), 0), LOOK_MS));
	while (any_starting(list) && clock_mono_ms() < until && !is_over(ctx)) {
		json_decref(list);
		list = list_now(s, LOOK_MS);
	}
	if (s->last != NULL && json_equal(s->last, list)) {
		json_decref(list);
		return NULL;
	}
	json_decref(s->last);
	s->last = json_incref(list);
	return list;
}

char *remote_side_url(const struct remote_side *s, const char *server)
{
	size_t i;
	json_t *d;

	if (s == NULL || server == NULL)
		return NULL;
	json_array_foreach(s->definitions, i, d)
	{
		const char *name = json_string_value(json_object_get(d, "name"));

		if (name != NULL && strcmp(name, server) == 0)
			return plain_url(d);
	}
	return NULL;
}

int remote_side_perform(struct remote_side *s, const struct remote_call *call, struct mcp_outcome *ret,
    const char **ret_code, struct why *why)
{
	struct remote_who who;

	*ret_code = "unknown_tool";
	if (s == NULL)
		return why_set(why, ERR_NOT_FOUND, "this run has no such MCP server (any more)");
	who = (struct remote_who){.owner = s->owner, .agent_id = s->agent_id};
	return remote_perform(s->remotes, &who, s->definitions, call, ret, ret_code, why);
}
