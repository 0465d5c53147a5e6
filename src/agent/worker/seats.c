/* Places of sessions (calls.h): who has which, and what is told of them. */
#include "agent/session/exec.h"
#include "agent/session/session.h"
#include "agent/hooks/hooks.h"
#include "agent/worker/calls_priv.h"
#include "agent/worker/clones.h"
#include "base/mem.h"
#include <string.h>

/* All at once, so that a thousand programs have their end behind them before the sessions are closed. */
#define FORCED_END_MS 10000
#define KILL_MS 500

void seats_init(struct calls *c)
{
	c->n_seats = MAX(c->cfg.max_sessions, 1);
	ENSURE(c->n_seats <= CALLS_MAX_PLACES);
	c->seats = mem_zalloc(c->n_seats * sizeof *c->seats);
	for (size_t i = 0; i < c->n_seats; i++)
		c->seats[i] = (struct seat){
		    .n = (unsigned)i + 1, .agent = str_dup(""), .open_agent = str_dup(""), .open_claim = str_dup("")};
	c->seats[0].session = c->cfg.session;
}

void seats_fini(struct calls *c)
{
	for (size_t i = 0; i < c->n_seats; i++) {
		struct seat *seat = &c->seats[i];

		if (seat->session != c->cfg.session)
			session_free(&seat->session);
		clone_set_free(&seat->clones);
		free(seat->agent);
		free(seat->open_agent);
		free(seat->open_claim);
		free(seat->news);
		free(seat->early_news);
	}
	free(c->seats);
}

static struct seat *seat_of(struct calls *c, const char *agent_id)
{
	for (size_t i = 0; i < c->n_seats; i++)
		if (c->seats[i].agent[0] != '\0' && strcmp(c->seats[i].agent, agent_id) == 0)
			return &c->seats[i];
	return NULL;
}

static struct seat *free_seat(struct calls *c)
{
	for (size_t i = 0; i < c->n_seats; i++)
		if (c->seats[i].agent[0] == '\0')
			return &c->seats[i];
	return NULL;
}

static bool is_opening(const struct call_entry *call)
{
	return call->job.handler != NULL && call->job.handler->kind == CALL_OPEN_SESSION;
}

bool seat_is_awaited(const struct call_entry *call)
{
	return call->state == CALL_QUEUED && call->seat == NULL && is_opening(call);
}

/* An agent's own again, also for a new claim: its session goes on under that. */
static void seat_opening(struct calls *c, struct call_entry *call)
{
	struct seat *seat = seat_of(c, call->job.agent_id);

	if (seat == NULL)
		seat = free_seat(c);
	if (seat == NULL)
		return;
	call->seat = seat;
	str_set(&seat->agent, call->job.agent_id);
}

void seat_call(struct calls *c, struct call_entry *call, int64_t now_mono_ms)
{
	if (seats_are_shared(c)) {
		call->seat = &c->seats[0];
		return;
	}
	if (!is_opening(call)) {
		call->seat = seat_of(c, call->job.agent_id);
		return;
	}
	call->seat_until_ms = now_mono_ms + CALLS_PLACE_WAIT_MS;
	/* A malformed agent id has no session; the opening says so. */
	seat_opening(c, call);
}

bool seat_has_calls(const struct calls *c, const struct seat *seat)
{
	for (const struct call_entry *call = c->head; call != NULL; call = call->next)
		if (call->seat == seat && call->state != CALL_FINISHED)
			return true;
	return false;
}

int64_t seats_settle(struct calls *c)
{
	int64_t next = INT64_MAX;

	for (size_t i = 0; i < c->n_seats; i++) {
		struct seat *seat = &c->seats[i];

		if (seat->agent[0] != '\0' && seat->open_agent[0] == '\0' && !seat_has_calls(c, seat))
			str_set(&seat->agent, "");
	}
	for (struct call_entry *call = c->head; call != NULL; call = call->next) {
		if (!seat_is_awaited(call))
			continue;
		seat_opening(c, call);
		if (call->seat == NULL)
			next = MIN(next, call->seat_until_ms);
	}
	return next;
}

void seat_take_outcome(struct call_entry *call)
{
	struct seat *seat = call->seat;
	const struct job *j = &call->job;

	seat->session = j->session;
	seat->clones = j->clones;
	if (j->open_agent != NULL)
		str_set(&seat->open_agent, j->open_agent);
	if (j->open_claim != NULL)
		str_set(&seat->open_claim, j->open_claim);
	/* What an opening told with its result, these come behind. */
	if (j->open_agent != NULL) {
		free(seat->news);
		seat->news = TAKE(seat->early_news);
		seat->news_sent = false;
	}
}

bool seat_is_closing(const struct calls *c, const struct seat *seat)
{
	for (const struct call_entry *call = c->head; call != NULL; call = call->next)
		if (call->internal && call->seat == seat)
			return true;
	return false;
}

const char *calls_open_agent(const struct calls *c)
{
	for (size_t i = 0; i < c->n_seats; i++)
		if (c->seats[i].open_agent[0] != '\0')
			return c->seats[i].open_agent;
	return "";
}

size_t calls_sessions(const struct calls *c)
{
	size_t n = 0;

	for (size_t i = 0; i < c->n_seats; i++)
		n += c->seats[i].open_agent[0] != '\0';
	return n;
}

/* The call that has the seat for itself; NULL: none. */
static const struct call_entry *holder_of(const struct calls *c, const struct seat *seat)
{
	for (const struct call_entry *call = c->head; call != NULL; call = call->next)
		if (call->seat == seat && call->state == CALL_RUNNING && call->job.handler != NULL &&
		    call->job.handler->exclusive)
			return call;
	return NULL;
}

static bool is_of(const char *agent_id, const char *claim_id, const struct session_news *n)
{
	return strcmp(agent_id, n->agent_id) == 0 && strcmp(claim_id, n->claim_id) == 0;
}

/* The latest counts. What comes while the session is being opened has to wait for the result of that. */
static void take_one_news(struct calls *c, struct session_news *n)
{
	for (size_t i = 0; i < c->n_seats; i++) {
		struct seat *seat = &c->seats[i];
		const struct call_entry *holder = holder_of(c, seat);
		char **to = NULL;

		if (holder != NULL && is_of(holder->job.agent_id, holder->job.claim_id, n))
			to = &seat->early_news;
		else if (holder == NULL && is_of(seat->open_agent, seat->open_claim, n))
			to = &seat->news;
		if (to == NULL)
			continue;
		free(*to);
		*to = TAKE(n->json);
		seat->news_sent = false;
		return;
	}
}

void seats_tell_news(struct calls *c)
{
	void *msg;

	while (mailbox_receive(c->news, 0, &msg) == OK) {
		struct session_news *n = msg;

		take_one_news(c, n);
		session_news_free(&n);
	}
	for (size_t i = 0; i < c->n_seats; i++) {
		struct seat *seat = &c->seats[i];

		if (seat->news == NULL || seat->news_sent || seat->open_agent[0] == '\0' ||
		    holder_of(c, seat) != NULL || c->cfg.send_news == NULL)
			continue;
		seat->news_sent =
		    c->cfg.send_news(c->cfg.ctx, seat->open_agent, seat->open_claim, seat->news) != ERR_FULL;
	}
}

void seats_repeat_news(struct calls *c)
{
	for (size_t i = 0; i < c->n_seats; i++)
		c->seats[i].news_sent = false;
	seats_tell_news(c);
}

/* Calls for a session that is being closed would come too late. One that is opened behind it is told by the result of
 * its opening. */
void seats_fill_hello(struct calls *c, Bullpen__Worker__V1__Hello *h)
{
	h->n_sessions = 0;
	h->sessions = c->session_list;
	for (size_t i = 0; i < c->n_seats; i++) {
		const struct seat *seat = &c->seats[i];
		Bullpen__Worker__V1__Session *s = &c->sessions[h->n_sessions];

		if (seat->open_agent[0] == '\0' || seat_is_closing(c, seat))
			continue;
		bullpen__worker__v1__session__init(s);
		s->agent_id = seat->open_agent;
		s->claim_id = seat->open_claim;
		c->session_list[h->n_sessions++] = s;
	}
	h->agent_id = h->session_claim_id = (char *)(uintptr_t) "";
	if (seats_are_shared(c) && h->n_sessions == 1) {
		h->agent_id = c->sessions[0].agent_id;
		h->session_claim_id = c->sessions[0].claim_id;
	}
}

/* What else runs (git) ends because its call is cancelled. */
void calls_kill_programs(const struct calls *c)
{
	for (size_t i = 0; i < c->n_seats; i++) {
		AUTO_STR mark = str_printf("CURSOR_CONVERSATION_ID=%s", c->seats[i].open_agent);

		if (c->seats[i].open_agent[0] != '\0')
			exec_kill_all(mark, 0, 0, KILL_MS);
	}
}

static void end_here(struct session *s)
{
	struct hooks *h = hooks_of(s);

	if (h != NULL)
		hooks_say_end(h, "aborted", NULL, NULL, FORCED_END_MS);
	session_close(s, NULL);
}

void calls_close_here(struct calls *c)
{
	ENSURE(c->n_running == 0);
	for (size_t i = 0; i < c->n_seats; i++)
		if (c->seats[i].session != NULL)
			end_here(c->seats[i].session);
}
