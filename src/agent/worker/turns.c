#include "agent/worker/turns.h"
#include "base/mem.h"
#include <string.h>

/* More than a worker has sessions; what is over stays for a while, so that a call that comes again begins no turn. */
#define TURNS_MAX 64

struct turn {
	char *agent, *opening, *publishing, *latest; /* ids: of the agent, of calls or NULL */
	bool open;
	bool cancelled; /* the latest call was */
};

struct turns {
	bool several;
	void (*ended)(void *ctx, enum session_end how);
	void *ctx;
	struct turn v[TURNS_MAX]; /* oldest first */
	size_t n;
};

struct turns *turns_new(bool several, void (*ended)(void *ctx, enum session_end how), void *ctx)
{
	struct turns *t = NEW(struct turns);

	t->several = several;
	t->ended = ended;
	t->ctx = ctx;
	return t;
}

static void turn_fini(struct turn *turn)
{
	free(turn->agent);
	free(turn->opening);
	free(turn->publishing);
	free(turn->latest);
}

void turns_free(struct turns **tp)
{
	struct turns *t = TAKE(*tp);

	if (t == NULL)
		return;
	for (size_t i = 0; i < t->n; i++)
		turn_fini(&t->v[i]);
	free(t);
}

static struct turn *find(struct turns *t, const char *agent)
{
	for (size_t i = 0; i < t->n; i++)
		if (strcmp(t->v[i].agent, agent) == 0)
			return &t->v[i];
	return NULL;
}

static void end_turn(struct turns *t, struct turn *turn, enum session_end how)
{
	if (!turn->open)
		return;
	turn->open = false;
	t->ended(t->ctx, how == SESSION_END_STREAM_END && turn->cancelled ? SESSION_END_SESSION_ABORTED : how);
}

static struct turn *add(struct turns *t, const char *agent)
{
	size_t oldest = 0;

	if (t->n == TURNS_MAX) {
		while (oldest + 1 < t->n && t->v[oldest].open)
			oldest++;
		end_turn(t, &t->v[oldest], SESSION_END_STREAM_END);
		turn_fini(&t->v[oldest]);
		memmove(&t->v[oldest], &t->v[oldest + 1], (--t->n - oldest) * sizeof t->v[0]);
	}
	t->v[t->n] = (struct turn){.agent = str_dup(agent)};
	return &t->v[t->n++];
}

static void begin(struct turns *t, const Bullpen__Worker__V1__Call *m)
{
	struct turn *turn = find(t, m->agent_id);

	if (turn != NULL && turn->opening != NULL && strcmp(turn->opening, m->call_id) == 0)
		return;
	if (turn != NULL)
		end_turn(t, turn, SESSION_END_STREAM_END);
	if (!t->several)
		turns_end_all(t, SESSION_END_STREAM_END);
	if (turn == NULL)
		turn = add(t, m->agent_id);
	turn->open = true;
	turn->cancelled = false;
	str_set(&turn->opening, m->call_id);
	str_set(&turn->publishing, NULL);
}

void turns_call(struct turns *t, const Bullpen__Worker__V1__Call *m)
{
	struct turn *turn;

	if (m->kind == BULLPEN__WORKER__V1__CALL_KIND__OPEN_SESSION)
		begin(t, m);
	turn = find(t, m->agent_id);
	if (turn == NULL)
		return;
	if (m->kind == BULLPEN__WORKER__V1__CALL_KIND__CLOSE_SESSION) {
		end_turn(t, turn, SESSION_END_STREAM_END);
		return;
	}
	/* Work goes on after a call that was cancelled alone. */
	if (turn->latest == NULL || strcmp(turn->latest, m->call_id) != 0)
		turn->cancelled = false;
	str_set(&turn->latest, m->call_id);
	if (m->kind == BULLPEN__WORKER__V1__CALL_KIND__PUBLISH)
		str_set(&turn->publishing, m->call_id);
}

void turns_cancel(struct turns *t, const char *call_id)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].latest != NULL && strcmp(t->v[i].latest, call_id) == 0)
			t->v[i].cancelled = true;
}

void turns_result(struct turns *t, const char *call_id)
{
	for (size_t i = 0; i < t->n; i++)
		if (t->v[i].publishing != NULL && strcmp(t->v[i].publishing, call_id) == 0)
			end_turn(t, &t->v[i], SESSION_END_STREAM_END);
}

void turns_end_all(struct turns *t, enum session_end how)
{
	for (size_t i = 0; i < t->n; i++)
		end_turn(t, &t->v[i], how);
}

size_t turns_open(const struct turns *t)
{
	size_t n = 0;

	for (size_t i = 0; i < t->n; i++)
		n += t->v[i].open;
	return n;
}
