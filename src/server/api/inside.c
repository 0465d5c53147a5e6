/* Agents that are made here in a person's name. */
#include "server/api/inside.h"
#include "base/mem.h"
#include "server/api/agents.h"
#include "server/models/models.h"
#include "server/runs/followups.h"
#include <string.h>

#define ENDPOINT "inside"

void inside_made_fini(struct inside_made *m)
{
	str_free(&m->agent_id);
	str_free(&m->run_id);
}

static int write_all(struct api_request *rq, struct agent *a, const struct prompt *prompt,
    const struct inside_also *also, struct created *made, struct problem *p)
{
	AUTO(tx) tx = NULL;
	int rc = tx_begin(rq->api->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = agent_write(rq, tx, a, prompt, made, p);
	if (rc == OK && also != NULL)
		rc = also->write(also->ctx, tx, a->id);
	return rc == OK ? tx_commit(&tx) : rc;
}

int inside_create(struct api *api, const struct principal *who, const json_t *body, const struct inside_also *also,
    struct inside_made *ret, struct problem *p)
{
	AUTO_JSON copy = json_deep_copy(body);
	AUTO_JSON images = NULL;
	AUTO(agent) a = NEW(struct agent);
	__attribute__((cleanup(created_fini))) struct created made = {0};
	struct api_request rq = {.api = api, .who = (struct principal *)who, .body = copy};
	struct prompt prompt = {0};
	int rc = agent_from_body(&rq, ENDPOINT, a, &prompt, &images, p);

	if (rc == OK)
		rc = write_all(&rq, a, &prompt, also, &made, p);
	if (rc == ERR_INVALID && p->code == API_agent_id_conflict)
		return ERR_CONFLICT;
	if (rc != OK)
		return rc;
	ret->agent_id = str_dup(a->id);
	ret->run_id = str_dup(made.run->id);
	runs_created(api->cfg.runs, &made);
	return OK;
}

int inside_check(struct api *api, const struct principal *who, const json_t *body, struct problem *p)
{
	AUTO_JSON copy = json_deep_copy(body);
	AUTO_JSON images = NULL;
	AUTO(agent) a = NEW(struct agent);
	struct api_request rq = {.api = api, .who = (struct principal *)who, .body = copy};
	struct prompt prompt = {0};

	return agent_from_body(&rq, ENDPOINT, a, &prompt, &images, p);
}

static int continue_in(struct api *api, const struct principal *who, struct tx *tx, const char *agent_id,
    const struct prompt *prompt, struct created *made, struct problem *p)
{
	const struct audit_by by = {.team_id = who->team_id, .actor = who->owner, .name = who->user_email};
	AUTO(agent) a = NULL;
	int rc = agent_load(tx, agent_id, &a);

	if (rc == OK)
		rc = follow_up_check(tx, who, a, true);
	if (rc != OK)
		return rc;
	if (strcmp(a->status, "ARCHIVED") == 0)
		return problem_set(p, API_agent_archived, "this agent is archived: unarchive it first");
	rc = run_create(api->cfg.runs, tx, a, prompt, NULL, NULL, made);
	if (rc == ERR_CONFLICT)
		rc = followup_add(tx, agent_id, prompt);
	if (rc == ERR_FULL)
		return problem_set(p, API_agent_busy, "%d follow-ups of this agent wait already", FOLLOWUPS_MAX);
	return rc == OK ? follow_up_note(tx, &by, a) : rc;
}

int inside_continue(struct api *api, const struct principal *who, const char *agent_id, const struct prompt *prompt,
    const struct inside_also *also, struct inside_made *ret, struct problem *p)
{
	AUTO(tx) tx = NULL;
	__attribute__((cleanup(created_fini))) struct created made = {0};
	int rc = tx_begin(api->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = continue_in(api, who, tx, agent_id, prompt, &made, p);
	if (rc == OK && also != NULL)
		rc = also->write(also->ctx, tx, agent_id);
	if (rc == OK)
		rc = tx_commit(&tx);
	if (rc != OK)
		return rc;
	ret->agent_id = str_dup(agent_id);
	ret->run_id = made.run != NULL ? str_dup(made.run->id) : NULL;
	if (made.run != NULL)
		runs_created(api->cfg.runs, &made);
	return OK;
}

static int may_end(struct api *api, const struct principal *who, const char *agent_id, bool owner_only)
{
	AUTO(tx) tx = NULL;
	AUTO(agent) a = NULL;
	int rc = tx_begin(api->cfg.store, TX_READ, &tx);

	if (rc == OK)
		rc = agent_load(tx, agent_id, &a);
	if (rc != OK)
		return rc;
	if (owner_only)
		return strcmp(a->owner, who->owner) == 0 ? OK : ERR_DENIED;
	return follow_up_check(tx, who, a, true);
}

int inside_stop(struct api *api, const struct principal *who, const char *agent_id)
{
	int rc = may_end(api, who, agent_id, false);

	return rc == OK ? agent_stop(api->cfg.runs, agent_id) : rc;
}

int inside_archive(struct api *api, const struct principal *who, const char *agent_id)
{
	int rc = may_end(api, who, agent_id, true);

	return rc == OK ? agent_archive(api->cfg.runs, agent_id) : rc;
}

bool inside_has_model(const char *name)
{
	return model_find(name) != NULL;
}

bool inside_takes_images(const char *model)
{
	const struct model *m = model_find(model);

	return m != NULL && m->takes_images;
}

const char *inside_web_base(struct api *api)
{
	return atomic_load(&api->web_base);
}

char *inside_agent_url(struct api *api, const char *agent_id)
{
	const char *base = inside_web_base(api);

	return str_printf("%s/agents/%s", base != NULL ? base : "", agent_id);
}

static const char *header_of(const struct inside_delivery *d, const char *name)
{
	return http_header_get(d->ctx, name);
}

static void post_webhook(struct api_request *rq)
{
	struct inside_answer answer = {.status = 404};
	struct inside_delivery d = {.path = route_param(rq, "path"), .header = header_of, .ctx = rq->x};

	d.body = http_body(rq->x, &d.len);
	if (rq->api->cfg.receive != NULL)
		rq->api->cfg.receive(rq->api->cfg.receive_ctx, &d, &answer);
	if (answer.status == 404)
		api_error(rq, API_not_found, "nothing here takes such webhooks");
	/* Nothing is said about why: who signs wrongly learns nothing. */
	else if (answer.status == 401)
		api_error(rq, API_unauthorized, "the signature is missing or wrong");
	else if (answer.status == 503)
		api_error(rq, API_service_unavailable, "the event was not stored, send it again");
	else if (answer.status != 200)
		api_error(rq, API_validation_error, "%s",
		    answer.text != NULL ? answer.text : "the body is not as it should be");
	else if (answer.text != NULL)
		api_reply_bytes(rq, 200, answer.content_type != NULL ? answer.content_type : "application/json",
		    answer.text, strlen(answer.text), NULL, 0);
	else
		api_reply(rq, 200, json_object());
	free(answer.text);
}

static const struct route webhook_route = {
    .name = "receiveWebhook",
    .method = "POST",
    .path = "/webhooks/{path*}",
    .summary = "An event of a forge, a chat or a tracker, signed as that service does it",
    .tag = "triggers",
    .open = true,
    .body = BODY_BYTES,
    .max_body = (size_t)25 * 1024 * 1024,
    .responses = {{200, "It is stored, or was before", NULL, "Received"},
	{200, "The same, for services that want plain text", "text/plain"}, {401, "The signature is missing or wrong"},
	{404, "There is no such service here"}},
    .handler = post_webhook,
};
ROUTE(webhook_route);
