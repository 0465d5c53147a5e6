/* Calls that the run's worker performs. The hub keeps each of them at most once there (docs/adr/0003). */
#include "base/mem.h"
#include "server/runs/call.h"
#include "server/runs/hooks.h"
#include "server/runs/tools.h"
#include <string.h>

#define READ_LIMIT_MS (120 * 1000)
#define OTHER_LIMIT_MS (65 * 60 * 1000)
/* The loop gives an opening up in time; the worker's own limit is for when nobody is there to do it. */
#define AFTER_OURS_MS 30000

static int64_t worker_limit_ms(const struct loop *l, const struct call *c)
{
	if (c->kind == CALL_TOOL && strcmp(json_word(tool_of_call(l, c), "class"), "read") == 0)
		return READ_LIMIT_MS;
	return c->kind == CALL_OPEN_SESSION ? l->run->runs->cfg.open_timeout_ms : OTHER_LIMIT_MS;
}

/* The hub sends everything to the run's own loop, which passes on what belongs to a nested one. */
static bool needs_route(const struct loop *l)
{
	return l->depth > 0;
}

/* Its programs, or its hooks. */
static bool takes_env(const struct call *c)
{
	return c->kind == CALL_TOOL || c->kind == CALL_OPEN_SESSION || c->kind == CALL_RUN_HOOKS;
}

static void worker_start(struct loop *l, struct call *c)
{
	struct run *r = l->run;
	AUTO_STR hook_json = hooks_facts(l, c);
	const struct fleet_call call = {
	    .kind = c->kind,
	    .call_id = c->id,
	    .agent_id = r->agent->id,
	    .run_id = r->info->id,
	    .claim_id = r->claim_id,
	    .incarnation = c->incarnation,
	    .limit_ms = worker_limit_ms(l, c) + (c->kind == CALL_OPEN_SESSION ? AFTER_OURS_MS : 0),
	    .name = c->kind == CALL_TOOL ? c->name : "",
	    .arguments_json = c->args_text,
	    .env_json = takes_env(c) ? r->env_json : NULL,
	    .mcp_json = c->kind == CALL_OPEN_SESSION ? r->mcp_json : NULL,
	    .hook_json = hook_json,
	    .forget_rules = c->kind == CALL_TOOL && l->forget_rules,
	};

	if (needs_route(l))
		call_routes_add(r->routes, c->id, l->inbox);
	fleet_call(r->runs->fleet, r->agent->team_id, r->worker_id, &call);
	if (c->kind == CALL_TOOL)
		l->forget_rules = false;
}

static void worker_leave(struct loop *l, struct call *c)
{
	if (needs_route(l))
		call_routes_remove(l->run->routes, c->id);
}

static void worker_stored(struct loop *l, struct call *c)
{
	struct run *r = l->run;

	/* An error may mean that it never came there. */
	if (c->outcome != NULL && strcmp(c->outcome, "error") != 0)
		hooks_told(l, c->told_upto);
	fleet_result_stored(r->runs->fleet, r->agent->team_id, r->worker_id, c->id);
	worker_leave(l, c);
}

static void worker_abandon(struct loop *l, struct call *c)
{
	struct run *r = l->run;

	fleet_abandon_call(r->runs->fleet, r->agent->team_id, r->worker_id, c->id);
	worker_leave(l, c);
}

const struct executor executor_worker = {
    .name = "worker",
    .limit_ms = worker_limit_ms,
    .start = worker_start,
    .stored = worker_stored,
    .abandon = worker_abandon,
    .leave = worker_leave,
};
