/* Which runs are attached to a worker, which sessions are open there, and who hears what of it. A pool worker has at
 * most one of each, a personal machine several. */
#include "base/clock.h"
#include "base/mem.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/worker_priv.h"
#include <string.h>

/* A worker that claims to have more is not believed. */
#define SESSIONS_MAX 64
#define NEWS_PER_S_MAX 50

void inbox_tell_lost(struct mailbox *inbox)
{
	post_to_run(inbox, msg_new(FLEET_LOST, NULL));
}

static void drop_run(struct worker *w, size_t i)
{
	mailbox_free(&w->runs[i].inbox);
	str_free(&w->runs[i].run_id);
	str_free(&w->runs[i].claim_id);
	w->runs[i] = w->runs[--w->n_runs];
}

static size_t find_run(const struct worker *w, const char *run_id)
{
	size_t i = 0;

	while (i < w->n_runs && strcmp(w->runs[i].run_id, run_id) != 0)
		i++;
	return i;
}

struct mailbox *worker_inbox(const struct worker *w, const char *run_id)
{
	size_t i = find_run(w, run_id);

	return i < w->n_runs ? w->runs[i].inbox : NULL;
}

void worker_tell_lost(struct worker *w)
{
	while (w->n_runs > 0) {
		inbox_tell_lost(w->runs[w->n_runs - 1].inbox);
		drop_run(w, w->n_runs - 1);
	}
}

bool worker_was_cancelled(const struct worker *w, const char *run_id)
{
	for (size_t i = 0; i < WORKER_CANCELLED_MAX; i++)
		if (w->cancelled[i] != NULL && strcmp(w->cancelled[i], run_id) == 0)
			return true;
	return false;
}

/* An earlier thread of the run, if any, has no business here any more; of a pool worker, nobody else has. */
static void replace_earlier(struct worker *w, const char *run_id)
{
	size_t i = find_run(w, run_id);

	if (!w->personal) {
		worker_tell_lost(w);
	} else if (i < w->n_runs) {
		inbox_tell_lost(w->runs[i].inbox);
		drop_run(w, i);
	}
}

static struct open_session *find_session(const struct worker *w, const char *claim_id)
{
	for (size_t i = 0; i < w->n_sessions; i++)
		if (strcmp(w->sessions[i].claim_id, claim_id) == 0)
			return &w->sessions[i];
	return NULL;
}

bool worker_has_session(const struct worker *w, const char *claim_id)
{
	return find_session(w, claim_id) != NULL;
}

/* A run that does not keep up misses some: the newest of each session is what the next attach gets. */
static void post_news(struct mailbox *inbox, const char *news)
{
	struct fleet_msg *m = msg_new(FLEET_NEWS, NULL);

	m->len = strlen(news);
	m->data = str_dup(news);
	post_to_run(inbox, m);
}

bool worker_take_news(struct worker *w, const Bullpen__Worker__V1__SessionNews *n, int64_t now_ms)
{
	struct open_session *session = find_session(w, n->claim_id);

	if (now_ms - w->news_since_ms >= 1000) {
		w->news_since_ms = now_ms;
		w->news_told = 0;
	}
	if (++w->news_told > NEWS_PER_S_MAX)
		return false;
	if (session == NULL || strcmp(session->agent_id, n->agent_id) != 0)
		return true;
	str_set(&session->news, n->news_json);
	for (size_t i = 0; i < w->n_runs; i++)
		if (strcmp(w->runs[i].claim_id, n->claim_id) == 0)
			post_news(w->runs[i].inbox, session->news);
	return true;
}

void worker_attach(struct fleet *f, struct hub_msg *m)
{
	struct worker *w = hub_find_worker(f, m->team_id, m->worker_id);
	const struct open_session *session;
	struct fleet_msg *answer;

	if (w == NULL || w->conn == NULL) {
		inbox_tell_lost(m->inbox);
		return;
	}
	if (worker_was_cancelled(w, m->run_id)) {
		post_to_run(m->inbox, msg_new(FLEET_CANCELLED, NULL));
		return;
	}
	replace_earlier(w, m->run_id);
	answer = msg_new(FLEET_ATTACHED, NULL);
	answer->incarnation = w->incarnation;
	answer->takes_env = w->takes_env;
	answer->tools = tool_set_ref(w->tools);
	session = find_session(w, m->claim_id);
	answer->session_claim = str_dup(session != NULL ? m->claim_id : "");
	w->runs = mem_grow(w->runs, &w->runs_cap, w->n_runs + 1, sizeof *w->runs);
	w->runs[w->n_runs++] =
	    (struct attached){.run_id = TAKE(m->run_id), .claim_id = TAKE(m->claim_id), .inbox = TAKE(m->inbox)};
	post_to_run(w->runs[w->n_runs - 1].inbox, answer);
	if (session != NULL && session->news != NULL)
		post_news(w->runs[w->n_runs - 1].inbox, session->news);
}

void worker_detach(struct worker *w, const char *run_id)
{
	size_t i = find_run(w, run_id);

	if (i < w->n_runs)
		drop_run(w, i);
}

void worker_cancel_run(struct worker *w, const char *run_id)
{
	size_t i;

	if (!worker_was_cancelled(w, run_id)) {
		str_set(&w->cancelled[w->cancelled_next], run_id);
		w->cancelled_next = (w->cancelled_next + 1) % WORKER_CANCELLED_MAX;
	}
	worker_abandon_calls_of(w, run_id);
	i = find_run(w, run_id);
	if (i == w->n_runs)
		return;
	post_to_run(w->runs[i].inbox, msg_new(FLEET_CANCELLED, NULL));
	drop_run(w, i);
}

static void drop_session(struct worker *w, size_t i)
{
	free(w->sessions[i].agent_id);
	free(w->sessions[i].claim_id);
	free(w->sessions[i].news);
	w->sessions[i] = w->sessions[--w->n_sessions];
}

static void add_session(struct worker *w, const char *agent_id, const char *claim_id)
{
	if (claim_id[0] == '\0' || w->n_sessions == SESSIONS_MAX)
		return;
	w->sessions = mem_grow(w->sessions, &w->sessions_cap, w->n_sessions + 1, sizeof *w->sessions);
	w->sessions[w->n_sessions++] =
	    (struct open_session){.agent_id = str_dup(agent_id), .claim_id = str_dup(claim_id)};
}

/* The agent's former session goes on under the new claim, or is gone; of a pool worker, whosever it was. */
void worker_note_opening(struct worker *w, const char *agent_id, const char *claim_id)
{
	for (size_t i = w->n_sessions; i-- > 0;)
		if (!w->personal || strcmp(w->sessions[i].agent_id, agent_id) == 0)
			drop_session(w, i);
	add_session(w, agent_id, claim_id);
}

void worker_note_closing(struct worker *w, const char *claim_id)
{
	for (size_t i = w->n_sessions; i-- > 0;)
		if (strcmp(w->sessions[i].claim_id, claim_id) == 0)
			drop_session(w, i);
}

/* A worker that knows nothing of several sessions names the one that it has. */
static size_t count_told(const Bullpen__Worker__V1__Hello *hello)
{
	return hello->n_sessions > 0 ? hello->n_sessions : hello->session_claim_id[0] != '\0';
}

static struct open_session told(const Bullpen__Worker__V1__Hello *hello, size_t i)
{
	if (hello->n_sessions > 0)
		return (struct open_session){
		    .agent_id = hello->sessions[i]->agent_id, .claim_id = hello->sessions[i]->claim_id};
	return (struct open_session){.agent_id = hello->agent_id, .claim_id = hello->session_claim_id};
}

static bool has_capability(const Bullpen__Worker__V1__Hello *hello, const char *name)
{
	for (size_t i = 0; i < hello->n_capabilities; i++)
		if (strcmp(hello->capabilities[i], name) == 0)
			return true;
	return false;
}

/* A link that is resumed does not tell them again. */
static void keep_news(struct worker *w, struct open_session *before, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct open_session *now = find_session(w, before[i].claim_id);

		if (now != NULL && now->news == NULL)
			now->news = TAKE(before[i].news);
		free(before[i].agent_id);
		free(before[i].claim_id);
		free(before[i].news);
	}
	free(before);
}

void worker_take_session(struct worker *w, const Bullpen__Worker__V1__Hello *hello)
{
	struct open_session *before = w->sessions;
	size_t n_before = w->n_sessions;

	w->personal = hello->personal;
	w->takes_env = has_capability(hello, "secret_sync");
	w->sessions = NULL;
	w->n_sessions = w->sessions_cap = 0;
	for (size_t i = 0; i < count_told(hello); i++) {
		struct open_session s = told(hello, i);

		/* One of each agent, and of a pool worker one in all. */
		worker_note_opening(w, s.agent_id, s.claim_id);
	}
	keep_news(w, before, n_before);
	worker_note_calls(w, hello);
}

void worker_runs_fini(struct worker *w)
{
	while (w->n_runs > 0)
		drop_run(w, w->n_runs - 1);
	while (w->n_sessions > 0)
		drop_session(w, w->n_sessions - 1);
	for (size_t i = 0; i < WORKER_CANCELLED_MAX; i++)
		str_free(&w->cancelled[i]);
	free(w->runs);
	free(w->sessions);
}
