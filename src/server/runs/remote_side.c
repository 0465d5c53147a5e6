/* The MCP servers that the control plane asks for one run. */
#include "server/runs/remote_side.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/result.h"
#include "server/mcp/web.h"
#include "server/runs/run.h"
#include <string.h>

#define FIRST_WAIT_MS 15000
#define LOOK_MS 300 /* how often a run that waits looks whether it is over */

struct remote_side {
	struct remotes *remotes;
	char *agent_id;
	struct kept_owner owner;
	json_t *definitions;
	json_t *last; /* as listed last; NULL: never */
};

/* "user:7" is a person; a service account has nobody's grants. */
static int64_t user_of(const char *owner)
{
	int64_t id = 0;

	return text_has_prefix(owner, "user:") && text_parse_int(owner + 5, 1, INT64_MAX, &id) == OK ? id : 0;
}

static json_t *list_now(struct remote_side *s, int64_t wait_ms)
{
	const struct remote_who who = {.owner = s->owner, .agent_id = s->agent_id};

	return remote_list(s->remotes, &who, s->definitions, wait_ms, NULL);
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
	*servers = stdio;
	if (json_array_size(remote) == 0 || cfg->remotes == NULL) {
		json_decref(remote);
		return OK;
	}
	s = NEW(struct remote_side);
	s->remotes = cfg->remotes;
	s->agent_id = str_dup(r->agent->id);
	s->owner = owner;
	s->definitions = remote;
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
		const char *url = json_string_value(json_object_get(d, "url"));
		AUTO_STR whole = NULL;

		if (name == NULL || url == NULL || strcmp(name, server) != 0)
			continue;
		/* Canonical: no user, no fragment, and the first ? begins the query. */
		whole = web_canonical(url);
		return whole != NULL ? str_ndup(whole, strcspn(whole, "?")) : NULL;
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
