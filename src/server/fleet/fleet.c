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

/* A call for the wire whose strings belong to somebody else. */
struct borrowed_call {
	Bullpen__Worker__V1__Call call;
	Bullpen__Worker__V1__OpenSession open;
	Bullpen__Worker__V1__ToolCall tool;
	Bullpen__Worker__V1__PublishBranch publish;
	Bullpen__Worker__V1__CloseSession close;
};

static char *borrow(const char *v)
{
	return (char *)(uintptr_t)(v != NULL ? v : "");
}

static void fill_kind(struct borrowed_call *b, const struct fleet_call *c)
{
	switch (c->kind) {
	case CALL_OPEN_SESSION:
		b->call.kind_case = BULLPEN__WORKER__V1__CALL__KIND_OPEN_SESSION;
		b->call.open_session = &b->open;
		bullpen__worker__v1__open_session__init(&b->open);
		b->open.repo_url = borrow(c->repo_url);
		b->open.starting_ref = borrow(c->starting_ref);
		b->open.branch = borrow(c->branch);
		b->open.work_on_current_branch = c->work_on_current_branch;
		break;
	case CALL_TOOL:
		b->call.kind_case = BULLPEN__WORKER__V1__CALL__KIND_TOOL;
		b->call.tool = &b->tool;
		bullpen__worker__v1__tool_call__init(&b->tool);
		b->tool.name = borrow(c->name);
		b->tool.arguments_json = borrow(c->arguments_json);
		b->tool.forget_rules = c->forget_rules;
		break;
	case CALL_PUBLISH:
		b->call.kind_case = BULLPEN__WORKER__V1__CALL__KIND_PUBLISH;
		b->call.publish = &b->publish;
		bullpen__worker__v1__publish_branch__init(&b->publish);
		b->publish.message = borrow(c->message);
		b->publish.author_name = borrow(c->author_name);
		b->publish.author_email = borrow(c->author_email);
		break;
	case CALL_CLOSE_SESSION:
		b->call.kind_case = BULLPEN__WORKER__V1__CALL__KIND_CLOSE_SESSION;
		b->call.close_session = &b->close;
		bullpen__worker__v1__close_session__init(&b->close);
		break;
	}
}

static Bullpen__Worker__V1__Call *copy_call(const Bullpen__Worker__V1__Call *c)
{
	size_t len = bullpen__worker__v1__call__get_packed_size(c);
	uint8_t *bytes = mem_alloc(len);
	Bullpen__Worker__V1__Call *copy;

	bullpen__worker__v1__call__pack(c, bytes);
	copy = bullpen__worker__v1__call__unpack(NULL, len, bytes);
	ENSURE(copy != NULL);
	free(bytes);
	return copy;
}

/* The one message that is worth being put together only if it must wait. */
void fleet_call(struct fleet *f, int64_t team_id, const char *worker_id, const struct fleet_call *c)
{
	struct borrowed_call b;
	struct hub_msg *m;

	bullpen__worker__v1__call__init(&b.call);
	b.call.call_id = borrow(c->call_id);
	b.call.agent_id = borrow(c->agent_id);
	b.call.run_id = borrow(c->run_id);
	b.call.limit_ms = (uint64_t)MAX(c->limit_ms, 0);
	fill_kind(&b, c);
	if (hub_take_turn(f)) {
		worker_call(f, team_id, worker_id, c->incarnation, &b.call);
		hub_give_turn(f);
		return;
	}
	m = worker_msg(HUB_CALL, team_id, worker_id);
	m->incarnation = c->incarnation;
	m->call = copy_call(&b.call);
	hub_post(f, m);
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
