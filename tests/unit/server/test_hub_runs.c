/* What the hub does for several runs on one worker: each hears of its own calls, and what ends for one goes on for the
 * others. The hub has no threads here: the test has its turn. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/worker_conn.h"
#include "server/fleet/worker_priv.h"
#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#define SUCCESS BULLPEN__WORKER__V1__CALL_RESULT__OUTCOME__SUCCESS
#define FAILED BULLPEN__WORKER__V1__CALL_RESULT__OUTCOME__ERROR

struct scene {
	struct notify *notify;
	struct fleet *fleet;
	struct link *far; /* the worker's end */
	struct worker_conn conn;
	struct worker *w;
};

static void free_msg(void *msg)
{
	struct fleet_msg *m = msg;

	fleet_msg_free(&m);
}

static void carry(struct link *from, struct link *to)
{
	const void *bytes;
	struct why why;
	size_t n;

	while ((n = link_out(from, &bytes)) > 0) {
		assert_int_equal(link_feed(to, bytes, n, 1, &why), OK);
		link_sent(from, n);
	}
}

/* The Hello is read where it says what is open. */
static void scene_init(struct scene *s, bool personal)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct link_event e;

	*s = (struct scene){.notify = notify_new()};
	s->fleet = fleet_new(&(struct fleet_config){.notify = s->notify, .loss_grace_ms = 1000});
	assert_true(hub_take_turn(s->fleet));
	s->w = hub_worker(s->fleet, 1, "w");
	s->w->link = hub_link_new(s->fleet);
	s->w->incarnation = 7;
	s->far = link_new(&(struct link_config){.role = LINK_WORKER, .incarnation = 7});
	h.worker_id = (char *)(uintptr_t) "w";
	h.personal = personal;
	link_attach(s->w->link, NULL, 1);
	link_attach(s->far, &h, 1);
	carry(s->far, s->w->link);
	assert_int_equal(link_next(s->w->link, &e), OK);
	assert_int_equal(e.kind, LINK_HELLO);
	worker_take_session(s->w, e.hello);
	link_welcome(s->w->link, 1);
	/* Its bytes go nowhere: what is sent is not looked at here. */
	s->conn = (struct worker_conn){.magic = CONN_MAGIC, .fleet = s->fleet, .worker = s->w, .ending = true};
	conns_add(&s->fleet->conns, &s->conn);
	s->w->conn = &s->conn;
}

static void scene_fini(struct scene *s)
{
	s->w->conn = NULL;
	conns_remove(&s->fleet->conns, &s->conn);
	hub_give_turn(s->fleet);
	/* The hub thread would do this. */
	fleet_stop(s->fleet);
	fleet_free(&s->fleet);
	notify_free(&s->notify);
	link_free(&s->far);
}

static struct mailbox *inbox(void)
{
	return mailbox_new(16, free_msg);
}

static void attach(struct scene *s, const char *run, const char *claim, struct mailbox *to)
{
	struct hub_msg *m = hub_msg_new(HUB_ATTACH);

	m->team_id = 1;
	m->worker_id = str_dup("w");
	m->run_id = str_dup(run);
	m->claim_id = str_dup(claim);
	m->inbox = mailbox_ref(to);
	worker_attach(s->fleet, m);
	hub_msg_free(&m);
}

/* The next thing that the run heard: "attached CLAIM", "lost", "cancelled", "result ID", "output ID", "interrupted ID",
 * "" for nothing. */
static const char *heard(struct mailbox *from)
{
	static char text[128];
	void *msg = NULL;
	struct fleet_msg *m;

	text[0] = '\0';
	if (mailbox_receive(from, 0, &msg) != OK)
		return text;
	m = msg;
	switch (m->kind) {
	case FLEET_ATTACHED:
		snprintf(text, sizeof text, "attached %s", m->session_claim);
		break;
	case FLEET_LOST:
		snprintf(text, sizeof text, "lost");
		break;
	case FLEET_CANCELLED:
		snprintf(text, sizeof text, "cancelled");
		break;
	case FLEET_OUTPUT:
		snprintf(text, sizeof text, "output %s", m->call_id);
		break;
	case FLEET_RESULT:
		snprintf(text, sizeof text, "result %s", m->call_id);
		break;
	case FLEET_NEWS:
		snprintf(text, sizeof text, "news %s", m->data);
		break;
	case FLEET_INTERRUPTED:
		snprintf(text, sizeof text, "interrupted %s", m->call_id);
		break;
	}
	fleet_msg_free(&m);
	return text;
}

static void call(struct scene *s, const char *id, call_kind kind, const char *run, const char *agent, const char *claim)
{
	Bullpen__Worker__V1__Call m = BULLPEN__WORKER__V1__CALL__INIT;

	m.call_id = (char *)(uintptr_t)id;
	m.run_id = (char *)(uintptr_t)run;
	m.agent_id = (char *)(uintptr_t)agent;
	m.claim_id = (char *)(uintptr_t)claim;
	m.kind = kind;
	worker_call(s->fleet, 1, "w", 7, &m);
}

static void result(struct scene *s, const char *id, Bullpen__Worker__V1__CallResult__Outcome outcome)
{
	Bullpen__Worker__V1__CallResult m = BULLPEN__WORKER__V1__CALL_RESULT__INIT;

	m.call_id = (char *)(uintptr_t)id;
	m.outcome = outcome;
	m.result_json = (char *)(uintptr_t) "{}";
	worker_take_result(s->w, &m);
}

static void output(struct scene *s, const char *id)
{
	Bullpen__Worker__V1__CallOutput m = BULLPEN__WORKER__V1__CALL_OUTPUT__INIT;

	m.call_id = (char *)(uintptr_t)id;
	m.stream = 1;
	m.data = (ProtobufCBinaryData){3, (uint8_t *)(uintptr_t) "abc"};
	worker_take_output(s->w, &m);
}

static void each_run_hears_of_its_own_calls(void **state)
{
	struct mailbox *one = inbox(), *two = inbox();
	struct scene s;

	scene_init(&s, true);
	attach(&s, "run-1", "claim-1", one);
	attach(&s, "run-2", "claim-2", two);
	assert_string_equal(heard(one), "attached ");
	assert_string_equal(heard(two), "attached ");
	call(&s, "c1", CALL_TOOL, "run-1", "a", "claim-1");
	call(&s, "c2", CALL_TOOL, "run-2", "b", "claim-2");
	output(&s, "c1");
	result(&s, "c2", SUCCESS);
	result(&s, "c1", SUCCESS);
	assert_string_equal(heard(one), "output c1");
	assert_string_equal(heard(one), "result c1");
	assert_string_equal(heard(one), "");
	assert_string_equal(heard(two), "result c2");
	assert_string_equal(heard(two), "");
	/* One that is not attached any more hears nothing, and its result is kept for who asks next. */
	call(&s, "c3", CALL_TOOL, "run-1", "a", "claim-1");
	worker_detach(s.w, "run-1");
	result(&s, "c3", SUCCESS);
	assert_string_equal(heard(one), "");
	assert_string_equal(heard(two), "");
	attach(&s, "run-1", "claim-1", one);
	call(&s, "c3", CALL_TOOL, "run-1", "a", "claim-1");
	assert_string_equal(heard(one), "attached ");
	assert_string_equal(heard(one), "result c3");
	scene_fini(&s);
	mailbox_free(&one);
	mailbox_free(&two);
}

static void cancelling_one_run_leaves_the_others(void **state)
{
	struct mailbox *one = inbox(), *two = inbox();
	struct scene s;

	scene_init(&s, true);
	attach(&s, "run-1", "claim-1", one);
	attach(&s, "run-2", "claim-2", two);
	call(&s, "c1", CALL_TOOL, "run-1", "a", "claim-1");
	call(&s, "c2", CALL_TOOL, "run-2", "b", "claim-2");
	worker_cancel_run(s.w, "run-1");
	assert_string_equal(heard(one), "attached ");
	assert_string_equal(heard(one), "cancelled");
	result(&s, "c1", FAILED);
	assert_string_equal(heard(one), "");
	/* A second one that is cancelled does not make the first forgotten. */
	worker_cancel_run(s.w, "run-9");
	attach(&s, "run-1", "claim-1", one);
	assert_string_equal(heard(one), "cancelled");
	result(&s, "c2", SUCCESS);
	assert_string_equal(heard(two), "attached ");
	assert_string_equal(heard(two), "result c2");
	assert_string_equal(heard(two), "");
	scene_fini(&s);
	mailbox_free(&one);
	mailbox_free(&two);
}

static void a_lost_machine_is_lost_for_all(void **state)
{
	struct mailbox *one = inbox(), *two = inbox();
	struct scene s;

	scene_init(&s, true);
	attach(&s, "run-1", "claim-1", one);
	attach(&s, "run-2", "claim-2", two);
	/* Another thread of the same run has taken over: the first is told. */
	attach(&s, "run-2", "claim-2", two);
	assert_string_equal(heard(two), "attached ");
	assert_string_equal(heard(two), "lost");
	assert_string_equal(heard(two), "attached ");
	worker_tell_lost(s.w);
	assert_string_equal(heard(one), "attached ");
	assert_string_equal(heard(one), "lost");
	assert_string_equal(heard(two), "lost");
	assert_int_equal(s.w->n_runs, 0);
	scene_fini(&s);
	mailbox_free(&one);
	mailbox_free(&two);
}

/* A pool worker serves one run at a time. */
static void on_a_pool_worker_the_next_run_replaces_the_one_before(void **state)
{
	struct mailbox *one = inbox(), *two = inbox();
	struct scene s;

	scene_init(&s, false);
	attach(&s, "run-1", "claim-1", one);
	attach(&s, "run-2", "claim-2", two);
	assert_string_equal(heard(one), "attached ");
	assert_string_equal(heard(one), "lost");
	assert_string_equal(heard(two), "attached ");
	/* The session of the second is the only one then. */
	call(&s, "o2", CALL_OPEN_SESSION, "run-2", "b", "claim-2");
	result(&s, "o2", SUCCESS);
	assert_int_equal(s.w->n_sessions, 1);
	worker_detach(s.w, "run-2");
	attach(&s, "run-3", "claim-3", one);
	call(&s, "o3", CALL_OPEN_SESSION, "run-3", "c", "claim-3");
	result(&s, "o3", SUCCESS);
	assert_int_equal(s.w->n_sessions, 1);
	assert_string_equal(s.w->sessions[0].claim_id, "claim-3");
	scene_fini(&s);
	mailbox_free(&one);
	mailbox_free(&two);
}

/* What a Hello says, put together from "agent" and "claim" pairs. */
static void say_hello(struct scene *s, bool personal, const char *const *pairs, const char *finished_call)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	Bullpen__Worker__V1__Session open[8], *list[8];
	Bullpen__Worker__V1__CallState c = BULLPEN__WORKER__V1__CALL_STATE__INIT, *calls[] = {&c};

	h.personal = personal;
	h.sessions = list;
	for (size_t i = 0; pairs[2 * i] != NULL; i++) {
		bullpen__worker__v1__session__init(&open[i]);
		open[i].agent_id = (char *)(uintptr_t)pairs[2 * i];
		open[i].claim_id = (char *)(uintptr_t)pairs[2 * i + 1];
		list[h.n_sessions++] = &open[i];
	}
	c.call_id = (char *)(uintptr_t)finished_call;
	c.finished = true;
	h.calls = calls;
	h.n_calls = finished_call != NULL;
	worker_take_session(s->w, &h);
}

static void a_run_is_told_whether_its_own_session_is_open(void **state)
{
	struct mailbox *to = inbox();
	struct scene s;

	scene_init(&s, true);
	say_hello(&s, true, (const char *const[]){"a", "claim-1", "b", "claim-2", NULL}, NULL);
	attach(&s, "run-1", "claim-1", to);
	assert_string_equal(heard(to), "attached claim-1");
	attach(&s, "run-3", "claim-3", to);
	assert_string_equal(heard(to), "attached ");
	call(&s, "o3", CALL_OPEN_SESSION, "run-3", "c", "claim-3");
	result(&s, "o3", SUCCESS);
	assert_string_equal(heard(to), "result o3");
	assert_int_equal(s.w->n_sessions, 3);
	/* The same agent with a new claim has its session under that. */
	call(&s, "o4", CALL_OPEN_SESSION, "run-3", "c", "claim-4");
	result(&s, "o4", SUCCESS);
	assert_string_equal(heard(to), "result o4");
	assert_int_equal(s.w->n_sessions, 3);
	/* A failed opening leaves none, and touches no other agent's. */
	call(&s, "o5", CALL_OPEN_SESSION, "run-3", "c", "claim-4");
	result(&s, "o5", FAILED);
	assert_string_equal(heard(to), "result o5");
	assert_int_equal(s.w->n_sessions, 2);
	worker_close_session(s.w, "a", "claim-1", NULL, NULL);
	for (size_t i = 0; i < s.w->n_calls; i++)
		if (s.w->calls[i].closes != NULL) {
			AUTO_STR id = str_dup(s.w->calls[i].call_id);

			result(&s, id, SUCCESS);
			break;
		}
	assert_int_equal(s.w->n_sessions, 1);
	assert_string_equal(s.w->sessions[0].claim_id, "claim-2");
	scene_fini(&s);
	mailbox_free(&to);
}

/* The worker opened both sessions while nobody heard it, and closed one of them since. */
static void an_opening_whose_session_was_closed_is_worth_nothing(void **state)
{
	struct mailbox *one = inbox(), *two = inbox();
	struct scene s;

	scene_init(&s, true);
	attach(&s, "run-1", "claim-1", one);
	attach(&s, "run-2", "claim-2", two);
	assert_string_equal(heard(one), "attached ");
	assert_string_equal(heard(two), "attached ");
	call(&s, "o1", CALL_OPEN_SESSION, "run-1", "a", "claim-1");
	call(&s, "o2", CALL_OPEN_SESSION, "run-2", "b", "claim-2");
	say_hello(&s, true, (const char *const[]){"a", "claim-1", NULL}, "o2");
	result(&s, "o2", SUCCESS);
	assert_string_equal(heard(two), "interrupted o2");
	/* The first was not finished when the Hello was written: its result is news. */
	result(&s, "o1", SUCCESS);
	assert_string_equal(heard(one), "result o1");
	assert_int_equal(s.w->n_sessions, 1);
	scene_fini(&s);
	mailbox_free(&one);
	mailbox_free(&two);
}

/* A worker from before there were several sessions. */
static void an_older_worker_names_its_one_session(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct mailbox *to = inbox();
	struct scene s;

	scene_init(&s, false);
	h.agent_id = (char *)(uintptr_t) "a";
	h.session_claim_id = (char *)(uintptr_t) "claim-1";
	worker_take_session(s.w, &h);
	attach(&s, "run-1", "claim-1", to);
	assert_string_equal(heard(to), "attached claim-1");
	scene_fini(&s);
	mailbox_free(&to);
}

static bool news(struct scene *s, const char *agent, const char *claim, const char *json)
{
	Bullpen__Worker__V1__SessionNews n = BULLPEN__WORKER__V1__SESSION_NEWS__INIT;

	n.agent_id = (char *)(uintptr_t)agent;
	n.claim_id = (char *)(uintptr_t)claim;
	n.news_json = (char *)(uintptr_t)json;
	return worker_take_news(s->w, &n, 1);
}

static void news_are_for_the_session_of_their_claim_and_kept_for_who_comes_later(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	Bullpen__Worker__V1__Session one = BULLPEN__WORKER__V1__SESSION__INIT, two = one, *list[] = {&one, &two};
	struct mailbox *to = inbox(), *other = inbox();
	struct scene s;

	scene_init(&s, true);
	h.personal = true;
	h.sessions = list;
	h.n_sessions = 2;
	one.agent_id = one.claim_id = (char *)(uintptr_t) "a";
	two.agent_id = two.claim_id = (char *)(uintptr_t) "b";
	worker_take_session(s.w, &h);
	attach(&s, "run-b", "b", other);
	assert_string_equal(heard(other), "attached b");
	assert_true(news(&s, "a", "a", "1"));
	assert_true(news(&s, "b", "a", "2")); /* somebody else's */
	assert_true(news(&s, "c", "c", "3")); /* nobody's */
	assert_string_equal(heard(other), "");
	attach(&s, "run-a", "a", to);
	assert_string_equal(heard(to), "attached a");
	assert_string_equal(heard(to), "news 1");
	assert_true(news(&s, "a", "a", "4"));
	assert_string_equal(heard(to), "news 4");
	/* A link that is resumed does not tell them again. */
	worker_take_session(s.w, &h);
	attach(&s, "run-a", "a", to);
	assert_string_equal(heard(to), "lost");
	assert_string_equal(heard(to), "attached a");
	assert_string_equal(heard(to), "news 4");
	/* A session that is opened anew has told all with its result. */
	worker_note_opening(s.w, "a", "a");
	attach(&s, "run-a", "a", to);
	assert_string_equal(heard(to), "lost");
	assert_string_equal(heard(to), "attached a");
	assert_string_equal(heard(to), "");
	for (int i = 0; i < 46; i++)
		assert_true(news(&s, "c", "c", "{}"));
	assert_false(news(&s, "c", "c", "{}"));
	scene_fini(&s);
	mailbox_free(&to);
	mailbox_free(&other);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_run_hears_of_its_own_calls),
	    cmocka_unit_test(cancelling_one_run_leaves_the_others),
	    cmocka_unit_test(a_lost_machine_is_lost_for_all),
	    cmocka_unit_test(on_a_pool_worker_the_next_run_replaces_the_one_before),
	    cmocka_unit_test(a_run_is_told_whether_its_own_session_is_open),
	    cmocka_unit_test(an_opening_whose_session_was_closed_is_worth_nothing),
	    cmocka_unit_test(an_older_worker_names_its_one_session),
	    cmocka_unit_test(news_are_for_the_session_of_their_claim_and_kept_for_who_comes_later),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
