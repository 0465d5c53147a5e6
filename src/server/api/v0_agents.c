/* /v0/agents: the older view of the same agents: flat, one status an agent, no runs. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "server/api/v0.h"
#include "server/runs/followups.h"
#include "server/webhooks/webhooks.h"
#include <string.h>

#define V0_AGENTS_ENDPOINT "POST /v0/agents" /* for Idempotency-Key */

char *v0_id(struct api_request *rq)
{
	AUTO_STR id = str_dup(route_param(rq, "id"));

	if (text_has_prefix(id, "bc_") || text_has_prefix(id, "BC_"))
		id[2] = '-';
	id_lower(id);
	if (id_is(id, "bc-"))
		return TAKE(id);
	api_error(rq, API_validation_error, "the agent's id must be bc- followed by a UUID");
	return NULL;
}

/* `run`: the agent's newest; NULL: it is so old that it was forgotten. */
static const char *status_of(const struct run_info *run, bool goes_on)
{
	if (run == NULL)
		return "EXPIRED";
	if (goes_on)
		return "CREATING"; /* a follow-up is about to begin */
	return strcmp(run->status, "CANCELLED") == 0 ? "STOPPED" : run->status;
}

static json_t *source_of(const struct agent *a)
{
	json_t *source = json_object();

	if (a->repo_url[0] != '\0')
		json_put(source, "repository", a->repo_url);
	if (a->starting_ref[0] != '\0')
		json_put(source, "ref", a->starting_ref);
	return source;
}

/* The branch is the one that will be pushed to, until the run has ended: then it is told only if it was. */
static json_t *target_of(struct api *api, const struct agent *a, bool active)
{
	json_t *target = json_object();
	AUTO_STR link = agent_link(api, a);
	const char *branch = a->pushed_branch != NULL ? a->pushed_branch : active ? a->branch : "";

	json_put(target, "url", link);
	if (branch[0] != '\0')
		json_put(target, "branchName", branch);
	json_put_bool(target, "autoCreatePr", a->auto_create_pr);
	if (a->pull_url != NULL)
		json_put(target, "prUrl", a->pull_url);
	json_put_bool(target, "openAsCursorGithubApp", a->open_as_app);
	json_put_bool(target, "skipReviewerRequest", a->skip_reviewer_request);
	return target;
}

static json_t *v0_agent_json(
    struct api *api, const struct agent *a, const struct run_info *run, const char *summary, bool goes_on)
{
	json_t *o = json_object();
	AUTO_STR cut = webhook_summary(summary);
	char when[CLOCK_ISO_LEN];

	clock_iso8601(a->created_at, when);
	json_put(o, "id", a->id);
	json_put(o, "name", a->name);
	json_put(o, "status", status_of(run, goes_on));
	json_put_new(o, "source", source_of(a));
	json_put_new(o, "target", target_of(api, a, goes_on || (run != NULL && !run_status_is_terminal(run->status))));
	if (cut != NULL)
		json_put(o, "summary", cut);
	json_put(o, "createdAt", when);
	return o;
}

/* The result of the newest run that has ended. */
static int load_summary(struct tx *tx, const struct agent *a, char **ret)
{
	int rc = tx_query_text(tx, ret,
	    "SELECT COALESCE(result, '') FROM runs WHERE agent_id = $1 AND status NOT IN ('CREATING', 'RUNNING')"
	    " ORDER BY number DESC LIMIT 1",
	    "s", a->id);

	return rc == ERR_EMPTY ? OK : rc;
}

static int show(struct api_request *rq, struct tx *tx, const struct agent *a, json_t **ret)
{
	AUTO(run_info) run = NULL;
	AUTO_STR summary = NULL;
	int64_t waiting = 0;
	int rc = run_load(tx, a->latest_run_id, &run);

	if (rc == OK && run_status_is_terminal(run->status))
		rc = followups_count(tx, a->id, &waiting);
	if (rc == OK)
		rc = load_summary(tx, a, &summary);
	if (rc == ERR_NOT_FOUND) /* its runs were forgotten (retention) */
		rc = OK;
	if (rc == OK)
		*ret = v0_agent_json(rq->api, a, run, summary, waiting > 0);
	return rc;
}

static json_t *show_created(struct api_request *rq, const struct agent *a, const struct run_info *run)
{
	return v0_agent_json(rq->api, a, run, NULL, false);
}

static int store_webhook(struct api_request *rq, struct tx *tx, const struct agent *a)
{
	const json_t *hook = json_object_get(rq->body, "webhook");
	AUTO_STR link = agent_link(rq->api, a);

	if (hook == NULL)
		return OK;
	return webhook_set(tx, rq->api->cfg.seal, a->id, json_string_value(json_object_get(hook, "url")),
	    json_string_value(json_object_get(hook, "secret")), link);
}

static const struct agents_view view = {.endpoint = V0_AGENTS_ENDPOINT,
    .created = show_created,
    .check = v0_to_v1,
    .also = store_webhook,
    .reword = v0_reword,
    .list_key = "agents",
    .item = show};

static void v0_post_agents(struct api_request *rq)
{
	agents_create(rq, &view);
}

static void v0_get_agents(struct api_request *rq)
{
	agents_list(rq, &view, false);
}

/* Reads an agent of the path and answers with what `make` makes of it. */
static void answer_about(
    struct api_request *rq, int (*make)(struct api_request *rq, struct tx *tx, const struct agent *a, json_t **ret))
{
	AUTO_STR id = v0_id(rq);
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	json_t *body = NULL;
	int rc = id != NULL ? tx_begin(rq->api->cfg.store, TX_READ, &tx) : ERR_INVALID;

	if (id == NULL || (rc == OK && !load_visible_agent(rq, tx, id, true, &a)))
		return;
	if (rc == OK)
		rc = make(rq, tx, a, &body);
	if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, body);
}

static void v0_get_agent(struct api_request *rq)
{
	answer_about(rq, show);
}

static int show_conversation(struct api_request *rq, struct tx *tx, const struct agent *a, json_t **ret)
{
	json_t *messages = NULL;
	int rc = agent_transcript(tx, a->id, &messages);

	if (rc == OK)
		*ret = json_pack("{s:s, s:o}", "id", a->id, "messages", messages);
	return rc;
}

static void v0_get_conversation(struct api_request *rq)
{
	answer_about(rq, show_conversation);
}

static void v0_delete_agent(struct api_request *rq)
{
	AUTO_STR id = v0_id(rq);

	if (id != NULL)
		agent_change(rq, id, agent_end);
}

static void v0_post_stop(struct api_request *rq)
{
	AUTO_STR id = v0_id(rq);
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = id != NULL ? tx_begin(rq->api->cfg.store, TX_READ, &tx) : ERR_INVALID;

	if (id == NULL || (rc == OK && !load_visible_agent(rq, tx, id, true, &a)))
		return;
	tx_free(&tx);
	if (rc == OK)
		rc = agent_stop(rq->api->cfg.runs, a->id);
	if (rc == ERR_CONFLICT)
		api_error(rq, API_run_not_cancellable, "the agent is not running");
	else if (rc != OK)
		api_refuse(rq, rc, NULL);
	else
		api_reply(rq, 200, json_pack("{s:s}", "id", a->id));
}

/* A run if the agent is idle, else a place behind what it has to do. */
static int begin_or_queue(
    struct api_request *rq, struct tx *tx, struct agent *a, const struct prompt *prompt, struct created *made)
{
	int rc = run_create(rq->api->cfg.runs, tx, a, prompt, NULL, NULL, made);

	return rc == ERR_CONFLICT ? followup_add(tx, a->id, prompt) : rc;
}

static void add_followup(struct api_request *rq, const char *endpoint, const char *id, const struct prompt *prompt)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	AUTO_JSON body = NULL;
	__attribute__((cleanup(created_fini))) struct created made = {0};
	const struct audit_by by = request_by(rq);
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc != OK) {
		api_refuse(rq, rc, NULL);
		return;
	}
	if (idempotency_check(rq, tx, endpoint) != OK || !load_agent_to_continue(rq, tx, id, &a))
		return;
	if (strcmp(a->status, "ARCHIVED") == 0) {
		api_error(rq, API_agent_archived, "this agent is archived: unarchive it first");
		return;
	}
	rc = begin_or_queue(rq, tx, a, prompt, &made);
	if (rc == OK)
		rc = follow_up_note(tx, &by, a);
	body = json_pack("{s:s}", "id", a->id);
	if (rc == OK)
		rc = idempotency_keep(rq, tx, endpoint, 200, body);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc == ERR_FULL) {
		api_error(rq, API_agent_busy, "%d follow-ups of this agent wait already", FOLLOWUPS_MAX);
	} else if (rc != OK) {
		api_refuse(rq, rc, NULL);
	} else {
		api_reply(rq, 200, TAKE(body));
		if (made.run != NULL)
			runs_created(rq->api->cfg.runs, &made);
	}
}

static void v0_post_followup(struct api_request *rq)
{
	AUTO_STR id = v0_id(rq);
	AUTO_STR endpoint = id != NULL ? str_printf("POST /v0/agents/%s/followup", id) : NULL;
	AUTO_JSON images = NULL;
	json_t *sent = NULL;
	const char *text = NULL;
	struct problem p = {.code = API_validation_error};
	int rc;

	if (id == NULL)
		return;
	v0_name_images(rq->body);
	rc = read_prompt(rq->body, &text, &sent, &p);
	if (rc == OK)
		rc = take_images(rq, endpoint, id, sent, NULL, &images, &p);
	if (rc == OK)
		add_followup(rq, endpoint, id, &(struct prompt){.text = text, .images = images});
	else
		api_refuse(rq, rc, &p);
}

#define V0_PROMPT                                                                                                      \
	"{\"type\":\"object\",\"required\":[\"text\"],\"properties\":{\"text\":{\"type\":\"string\",\"minLength\":1,"  \
	"\"description\":\"at most 1 MiB, not blank\"},\"images\":{\"type\":\"array\",\"maxItems\":5,\"items\":"       \
	"{\"type\":\"object\",\"required\":[\"data\"],\"description\":\"PNG, JPEG, GIF or WebP, of at most 15 MiB\","  \
	"\"properties\":{\"data\":{\"type\":\"string\",\"description\":\"base64\"},\"dimension\":{\"type\":"           \
	"\"object\"}}}}}}"
#define V0_SOURCE                                                                                                      \
	"{\"type\":\"object\",\"properties\":{\"repository\":{\"type\":\"string\",\"minLength\":1},"                   \
	"\"ref\":" SCHEMA_STRING ",\"prUrl\":" SCHEMA_STRING "}}"
#define V0_TARGET                                                                                                      \
	"{\"type\":\"object\",\"properties\":{\"autoCreatePr\":" SCHEMA_FLAG ",\"openAsCursorGithubApp\":" SCHEMA_FLAG \
	",\"skipReviewerRequest\":" SCHEMA_FLAG ",\"autoBranch\":" SCHEMA_FLAG ",\"branchName\":" SCHEMA_STRING "}}"
#define V0_WEBHOOK                                                                                                     \
	"{\"type\":\"object\",\"required\":[\"url\"],\"properties\":{\"url\":{\"type\":\"string\",\"description\":"    \
	"\"at most 2048 characters\"},\"secret\":{\"type\":\"string\",\"description\":\"32 to 256 characters\"}}}"
#define V0_LABELS                                                                                                      \
	"{\"type\":\"array\",\"items\":{\"type\":\"object\",\"required\":[\"key\",\"value\"],\"properties\":{"         \
	"\"key\":" SCHEMA_STRING ",\"value\":" SCHEMA_STRING "}}}"

static const struct route v0_create_agent_route = {
    .name = "v0CreateAgent",
    .method = "POST",
    .path = "/v0/agents",
    .summary = "Launches an agent",
    .tag = "v0 agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{\"type\":\"object\",\"required\":[\"prompt\",\"source\"],\"properties\":{\"prompt\":" V0_PROMPT
		   ",\"model\":{\"type\":\"string\",\"description\":\"one of GET /v0/models, or default\"}"
		   ",\"source\":" V0_SOURCE ",\"target\":" V0_TARGET ",\"webhook\":" V0_WEBHOOK
		   ",\"usePrivateWorker\":" SCHEMA_FLAG ",\"labels\":" V0_LABELS "}}",
    .max_body = PROMPT_BODY_MAX,
    .weight = PROMPT_BODY_WEIGHT,
    .responses = {{201, "The agent", .form = "V0Agent"}, {409, "The Idempotency-Key was used for something else"},
	{501, "Something that is not built yet was asked for"}},
    .handler = v0_post_agents,
};
ROUTE(v0_create_agent_route);

static const struct route v0_list_agents_route = {
    .name = "v0ListAgents",
    .method = "GET",
    .path = "/v0/agents",
    .summary = "The caller's agents but for archived ones, newest first",
    .tag = "v0 agents",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .query = "{\"type\":\"object\",\"properties\":{" SCHEMA_PAGE
	     ",\"prUrl\":{\"type\":\"string\",\"description\":\"only those with that pull request\"}}}",
    .responses = {{200, "A page: {agents, nextCursor?}", .form = "V0Agents"}},
    .handler = v0_get_agents,
};
ROUTE(v0_list_agents_route);

static const struct route v0_get_agent_route = {
    .name = "v0GetAgent",
    .method = "GET",
    .path = "/v0/agents/{id}",
    .summary = "One agent",
    .tag = "v0 agents",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200, "The agent", .form = "V0Agent"}, {404, "There is no such agent"}},
    .handler = v0_get_agent,
};
ROUTE(v0_get_agent_route);

static const struct route v0_get_conversation_route = {
    .name = "v0GetConversation",
    .method = "GET",
    .path = "/v0/agents/{id}/conversation",
    .summary = "What was said: prompts and the model's texts, in order",
    .tag = "v0 agents",
    .scope = SCOPE_AGENTS_READ,
    .rate = RATE_READ,
    .responses = {{200, "{id, messages: [{id, type, text}]}", .form = "V0Conversation"},
	{404, "There is no such agent"}},
    .handler = v0_get_conversation,
};
ROUTE(v0_get_conversation_route);

static const struct route v0_followup_route = {
    .name = "v0AddFollowup",
    .method = "POST",
    .path = "/v0/agents/{id}/followup",
    .summary = "Gives an agent its next prompt; it waits while a run is active",
    .tag = "v0 agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .body = BODY_JSON,
    .body_schema = "{\"type\":\"object\",\"required\":[\"prompt\"],\"properties\":{\"prompt\":" V0_PROMPT "}}",
    .max_body = PROMPT_BODY_MAX,
    .weight = PROMPT_BODY_WEIGHT,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such agent"},
	{409, "The agent is archived, too many follow-ups wait, or the Idempotency-Key was used for something else"}},
    .handler = v0_post_followup,
};
ROUTE(v0_followup_route);

static const struct route v0_stop_route = {
    .name = "v0StopAgent",
    .method = "POST",
    .path = "/v0/agents/{id}/stop",
    .summary = "Cancels the active run and forgets the follow-ups that wait",
    .tag = "v0 agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such agent"}, {409, "The agent is not running"}},
    .handler = v0_post_stop,
};
ROUTE(v0_stop_route);

static const struct route v0_delete_agent_route = {
    .name = "v0DeleteAgent",
    .method = "DELETE",
    .path = "/v0/agents/{id}",
    .summary = "Deletes an agent and all that is its; an active run is cancelled",
    .tag = "v0 agents",
    .scope = SCOPE_AGENTS_WRITE,
    .rate = RATE_MUTATION,
    .responses = {{200, "{id}", .form = "Id"}, {404, "There is no such agent"}},
    .handler = v0_delete_agent,
};
ROUTE(v0_delete_agent_route);
