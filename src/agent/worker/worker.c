#include "agent/worker/worker.h"
#include "agent/worker/worker_priv.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include <signal.h>
#include <unistd.h>

static void worker_step(struct worker_process *w);

static void on_timer(uv_timer_t *t)
{
	worker_step(OBJ_FROM(worker_process, t->data, WORKER_MAGIC));
}

static void on_wake(uv_async_t *a)
{
	worker_step(OBJ_FROM(worker_process, a->data, WORKER_MAGIC));
}

static void on_signal(uv_signal_t *s, int signum)
{
	/* A closed terminal does not end a worker. */
	if (signum != SIGHUP)
		worker_signal(OBJ_FROM(worker_process, s->data, WORKER_MAGIC), signum);
}

static void arm_timer(struct worker_process *w, int64_t when_ms)
{
	int64_t now = clock_mono_ms();

	if (when_ms == INT64_MAX) {
		uv_timer_stop(&w->timer);
		return;
	}
	uv_update_time(&w->loop);
	uv_timer_start(&w->timer, on_timer, when_ms > now ? (uint64_t)(when_ms - now) : 0, 0);
}

void worker_poke(struct worker_process *w)
{
	arm_timer(w, 0);
}

/* Nobody has heard of us for long: what runs is given up, as it is on the other side. The process lives on without its
 * session, which its next Hello says. */
static int64_t check_loss(struct worker_process *w, int64_t now)
{
	int64_t over;

	if (w->lost_ms == INT64_MAX || w->loss_grace_ms == 0 || calls_active(w->calls) == 0)
		return INT64_MAX;
	/* A Hello is on its way that says which session is open, and whoever gets it relies on that. Its handshake has
	 * a deadline, and if it fails this is asked again. */
	if (link_attached(w->link))
		return INT64_MAX;
	over = w->lost_ms + w->loss_grace_ms;
	if (now < over)
		return over;
	log_warn("worker.session.lost", "calls=%zu", calls_active(w->calls));
	calls_close_session(w->calls, "error", 0);
	turns_end_all(w->turns, w->lost_how);
	w->lost_ms = now;
	return INT64_MAX;
}

static void take_news(struct worker_process *w)
{
	AUTO(prober_news) n = NULL;

	while (w->prober != NULL && (n = prober_take(w->prober)) != NULL) {
		worker_fitness(w, n->code, n->reason);
		prober_news_free(&n);
	}
}

/* Said before the result that shows it, so that the control plane does not send the next one here. */
static void on_unfit(void *ctx, const char *code, const char *reason)
{
	struct worker_process *w = ctx;

	if (w->prober == NULL)
		return;
	worker_fitness(w, code, reason);
	prober_look(w->prober);
}

static enum worker_phase phase_of(const struct worker_process *w, bool claimed)
{
	if (w->stop != STOP_NOT)
		return PHASE_DRAINING;
	if (!w->announced)
		return PHASE_STARTING;
	if (!link_ready(w->link))
		return PHASE_DISCONNECTED;
	return claimed ? PHASE_CLAIMED : PHASE_READY;
}

/* For those who look after this worker. A pool worker is claimed until its session is closed, the time between two
 * runs included. */
static void show_figures(const struct worker_process *w)
{
	struct worker_figures *f = w->cfg.figures;
	bool claimed = calls_active(w->calls) > 0 || calls_open_agent(w->calls)[0] != '\0';

	atomic_store(&f->phase, (int)phase_of(w, claimed));
	atomic_store(&f->connected, link_ready(w->link));
	atomic_store(&f->claimed, claimed);
}

static void on_turn_end(void *ctx, enum session_end how)
{
	struct worker_process *w = ctx;

	atomic_fetch_add(&w->cfg.figures->ends[how], 1);
}

static void on_nap(void *ctx, int64_t slept_ms)
{
	worker_woke_up(OBJ_FROM(worker_process, ctx, WORKER_MAGIC), slept_ms);
}

static void worker_step(struct worker_process *w)
{
	int64_t now = clock_mono_ms(), next;
	struct why why = {""};

	if (w->stop == STOP_OVER)
		return;
	if (link_attached(w->link) && !w->closing && link_tick(w->link, now, &why) != OK) {
		log_warn("worker.link.dead", "reason=%s", log_quote(why.text));
		w->lost_how = SESSION_END_SESSION_ERROR;
		worker_hang_up(w);
	}
	next = calls_pump(w->calls, now);
	if (calls_stuck(w->calls, now)) {
		log_error("worker.call.stuck", "a cancelled call does not end");
		_exit(EXIT_FAILED);
	}
	take_news(w);
	next = MIN(next, check_loss(w, now));
	if (w->stream == NULL && w->stop <= STOP_DRAIN &&
	    (w->authenticating ? !auth_busy(w->auth) : now >= w->redial_ms))
		worker_dial(w);
	if (w->stream == NULL && w->stop <= STOP_DRAIN)
		next = MIN(next, w->redial_ms);
	next = MIN(next, worker_idle_step(w, now));
	next = MIN(next, worker_stop_step(w, now));
	worker_flush(w);
	if (link_attached(w->link) && !w->closing)
		next = MIN(next, link_next_tick(w->link));
	/* A cancelled call that hangs has to be noticed. */
	if (calls_active(w->calls) > 0)
		next = MIN(next, now + CALLS_STUCK_MS / 10);
	show_figures(w);
	arm_timer(w, next);
}

static void wake(void *ctx)
{
	struct worker_process *w = ctx;

	uv_async_send(&w->wake);
}

static int send_result(void *ctx, const Bullpen__Worker__V1__CallResult *m)
{
	struct worker_process *w = ctx;

	turns_result(w->turns, m->call_id);
	return link_send_result(w->link, m);
}

static int worker_send_output(void *ctx, const char *call_id, int stream, const void *data, size_t len)
{
	struct worker_process *w = ctx;

	return link_send_output(w->link, call_id, stream, data, len);
}

static int worker_send_news(void *ctx, const char *agent_id, const char *claim_id, const char *json)
{
	struct worker_process *w = ctx;

	return link_send_session_news(w->link, agent_id, claim_id, json);
}

static void start_loop(struct worker_process *w)
{
	static const int signums[ARRAY_LEN(w->signals)] = {SIGTERM, SIGINT, SIGHUP};

	ENSURE(uv_loop_init(&w->loop) == 0);
	ENSURE(uv_timer_init(&w->loop, &w->timer) == 0);
	ENSURE(uv_async_init(&w->loop, &w->wake, on_wake) == 0);
	w->timer.data = w->wake.data = w;
	for (size_t i = 0; i < ARRAY_LEN(signums); i++) {
		ENSURE(uv_signal_init(&w->loop, &w->signals[i]) == 0);
		w->signals[i].data = w;
		ENSURE(uv_signal_start(&w->signals[i], on_signal, signums[i]) == 0);
	}
}

static void end_loop(struct worker_process *w)
{
	uv_close((uv_handle_t *)&w->timer, NULL);
	uv_close((uv_handle_t *)&w->wake, NULL);
	for (size_t i = 0; i < ARRAY_LEN(w->signals); i++)
		uv_close((uv_handle_t *)&w->signals[i], NULL);
	uv_run(&w->loop, UV_RUN_DEFAULT);
	ENSURE(uv_loop_close(&w->loop) == 0);
}

int worker_run(const struct worker_config *cfg)
{
	struct worker_process *w = NEW(struct worker_process);
	const struct link_config link_cfg = {.role = LINK_WORKER, .incarnation = id_random64() | 1};
	const struct calls_config calls_cfg = {.session = cfg->session,
	    .max_sessions = cfg->max_sessions,
	    .sessions = cfg->sessions,
	    .clones_dir = cfg->clones_dir,
	    .takes_env = cfg->takes_env,
	    .hooks = &cfg->hooks,
	    .endpoint = cfg->options->endpoint,
	    .run = job_run,
	    .ctx = w,
	    .wake = wake,
	    .unfit = on_unfit,
	    .send_result = send_result,
	    .send_output = worker_send_output,
	    .project_mcp = cfg->options->project_mcp,
	    .send_news = worker_send_news};
	int status;

	w->magic = WORKER_MAGIC;
	w->cfg = *cfg;
	w->welcomed_ms = -1;
	w->lost_ms = clock_mono_ms();
	w->link = link_new(&link_cfg);
	w->idle.asked_ms = -1;
	w->calls = calls_new(&calls_cfg);
	w->turns = turns_new(cfg->options->pool == NULL, on_turn_end, w);
	start_loop(w);
	w->auth = auth_new(cfg->options, wake, w);
	w->nap = nap_watch(&w->loop, on_nap, w);
	w->prober = prober_new(&(struct prober_config){.health = cfg->health, .ctx = w, .wake = wake});
	if (cfg->unfit_code != NULL)
		on_unfit(w, cfg->unfit_code, cfg->unfit_reason);
	worker_poke(w); /* dials: redial_ms is in the past */
	uv_run(&w->loop, UV_RUN_DEFAULT);
	status = w->exit_status;
	/* Threads or a connection that did not end in time are not waited for. */
	turns_end_all(w->turns, SESSION_END_SESSION_ABORTED);
	if (calls_active(w->calls) > 0 || w->stream != NULL || auth_busy(w->auth)) {
		fflush(stdout);
		_exit(status);
	}
	prober_free(&w->prober);
	calls_free(&w->calls);
	turns_free(&w->turns);
	auth_free(&w->auth);
	nap_free(&w->nap);
	end_loop(w);
	link_free(&w->link);
	free(w->refused_word);
	free(w->unfit_code);
	free(w->unfit_reason);
	free(w);
	return status;
}
