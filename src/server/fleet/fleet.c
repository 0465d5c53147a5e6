/* The side of the runs and the API: messages to the hub, and what comes back. Any thread. */
#include "base/mem.h"
#include "server/fleet/fleet_priv.h"

void fleet_msg_free(struct fleet_msg **mp)
{
	struct fleet_msg *m = TAKE(*mp);

	if (m == NULL)
		return;
	tool_set_free(&m->tools);
	free(m->call_id);
	free(m->data);
	free(m->result_json);
	free(m->model_text);
	free(m->sdk_json);
	free(m);
}

static struct hub_msg *worker_msg(enum hub_msg_kind kind, int64_t team_id, const char *worker_id)
{
	struct hub_msg *m = hub_msg_new(kind);

	m->team_id = team_id;
	m->worker_id = str_dup(worker_id);
	return m;
}

void fleet_attach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id, struct mailbox *inbox)
{
	struct hub_msg *m = worker_msg(HUB_ATTACH, team_id, worker_id);

	m->run_id = str_dup(run_id);
	m->inbox = mailbox_ref(inbox);
	hub_do(f, m);
}

void fleet_detach(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id)
{
	struct hub_msg *m = worker_msg(HUB_DETACH, team_id, worker_id);

	m->run_id = str_dup(run_id);
	hub_do(f, m);
}

static void set(char **field, const char *v)
{
	free(*field == (char *)protobuf_c_empty_string ? NULL : *field);
	*field = str_dup(v != NULL ? v : "");
}

static void fill_kind(Bullpen__Worker__V1__Call *out, const struct fleet_call *c)
{
	switch (c->kind) {
	case CALL_OPEN_SESSION:
		out->kind_case = BULLPEN__WORKER__V1__CALL__KIND_OPEN_SESSION;
		out->open_session = NEW(Bullpen__Worker__V1__OpenSession);
		bullpen__worker__v1__open_session__init(out->open_session);
		set(&out->open_session->repo_url, c->repo_url);
		set(&out->open_session->starting_ref, c->starting_ref);
		set(&out->open_session->branch, c->branch);
		out->open_session->work_on_current_branch = c->work_on_current_branch;
		break;
	case CALL_TOOL:
		out->kind_case = BULLPEN__WORKER__V1__CALL__KIND_TOOL;
		out->tool = NEW(Bullpen__Worker__V1__ToolCall);
		bullpen__worker__v1__tool_call__init(out->tool);
		set(&out->tool->name, c->name);
		set(&out->tool->arguments_json, c->arguments_json);
		out->tool->forget_rules = c->forget_rules;
		break;
	case CALL_PUBLISH:
		out->kind_case = BULLPEN__WORKER__V1__CALL__KIND_PUBLISH;
		out->publish = NEW(Bullpen__Worker__V1__PublishBranch);
		bullpen__worker__v1__publish_branch__init(out->publish);
		set(&out->publish->message, c->message);
		set(&out->publish->author_name, c->author_name);
		set(&out->publish->author_email, c->author_email);
		break;
	case CALL_CLOSE_SESSION:
		out->kind_case = BULLPEN__WORKER__V1__CALL__KIND_CLOSE_SESSION;
		out->close_session = NEW(Bullpen__Worker__V1__CloseSession);
		bullpen__worker__v1__close_session__init(out->close_session);
		break;
	}
}

void fleet_call(struct fleet *f, int64_t team_id, const char *worker_id, const struct fleet_call *c)
{
	struct hub_msg *m = worker_msg(HUB_CALL, team_id, worker_id);

	m->run_id = str_dup(c->run_id);
	m->incarnation = c->incarnation;
	m->call = NEW(Bullpen__Worker__V1__Call);
	bullpen__worker__v1__call__init(m->call);
	set(&m->call->call_id, c->call_id);
	set(&m->call->agent_id, c->agent_id);
	set(&m->call->run_id, c->run_id);
	m->call->limit_ms = (uint64_t)MAX(c->limit_ms, 0);
	fill_kind(m->call, c);
	hub_do(f, m);
}

void fleet_result_stored(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id)
{
	struct hub_msg *m = worker_msg(HUB_RESULT_STORED, team_id, worker_id);

	m->call_id = str_dup(call_id);
	hub_do(f, m);
}

void fleet_abandon_call(struct fleet *f, int64_t team_id, const char *worker_id, const char *call_id)
{
	struct hub_msg *m = worker_msg(HUB_ABANDON, team_id, worker_id);

	m->call_id = str_dup(call_id);
	hub_do(f, m);
}

void fleet_cancel_run(struct fleet *f, int64_t team_id, const char *worker_id, const char *run_id)
{
	struct hub_msg *m = worker_msg(HUB_CANCEL_RUN, team_id, worker_id);

	m->run_id = str_dup(run_id);
	hub_do(f, m);
}

void fleet_close_session(struct fleet *f, int64_t team_id, const char *worker_id, const char *agent_id)
{
	struct hub_msg *m = worker_msg(HUB_CLOSE_SESSION, team_id, worker_id);

	m->agent_id = str_dup(agent_id);
	hub_do(f, m);
}

void fleet_drop_key(struct fleet *f, const char *key_id)
{
	struct hub_msg *m = hub_msg_new(HUB_DROP_KEY);

	m->key_id = str_dup(key_id);
	hub_post(f, m);
}

unsigned fleet_connected(struct fleet *f)
{
	return atomic_load(&f->connected);
}
