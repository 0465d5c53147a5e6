/* How a worker that has nothing to do goes: it asks first, because a run may be on its way. */
#include "agent/worker/worker_priv.h"
#include "base/clock.h"
#include "base/log.h"

#define REPLY_MS 5000

static bool is_busy(const struct worker_process *w)
{
	return calls_active(w->calls) > 0;
}

static void idle_ask(struct worker_process *w, int64_t now_ms)
{
	log_info("worker.idle", "seconds=%lld", (long long)w->cfg.options->idle_release_s);
	link_send_going_away(w->link, "idle", true);
	w->idle.asked_ms = now_ms;
}

/* The follow-up window begins again. */
static void idle_stay(struct worker_process *w, int64_t now_ms)
{
	w->idle.asked_ms = -1;
	w->idle.since_ms = now_ms;
}

static void idle_go(struct worker_process *w, const char *how)
{
	log_info("worker.idle.over", "%s", how);
	w->idle.over = true;
	turns_end_all(w->turns, SESSION_END_STREAM_END);
	w->said_goodbye = true;
	worker_stop(w, STOP_ABORT, EXIT_DONE, "idle");
}

void worker_idle_reply(struct worker_process *w, bool stay)
{
	if (w->idle.asked_ms < 0 || w->stop != STOP_NOT)
		return;
	if (stay)
		idle_stay(w, clock_mono_ms());
	else
		idle_go(w, "the control plane agrees");
}

/* The question is lost with what the link forgets, so it is asked again. */
void worker_idle_fresh(struct worker_process *w)
{
	w->idle.asked_ms = -1;
}

int64_t worker_idle_step(struct worker_process *w, int64_t now_ms)
{
	int64_t limit_ms = w->cfg.options->idle_release_s * 1000, due;

	if (limit_ms == 0 || w->stop != STOP_NOT)
		return INT64_MAX;
	if (is_busy(w)) {
		w->idle.worked = w->idle.busy = true;
		idle_stay(w, now_ms);
		return INT64_MAX;
	}
	/* The window begins with the end of the last call, not with the last look while it ran. */
	if (w->idle.busy) {
		w->idle.busy = false;
		idle_stay(w, now_ms);
	}
	/* A worker that had nothing to do yet is there to wait for it. */
	if (!w->idle.worked)
		return INT64_MAX;
	/* Nobody can be asked: at once when the connection is back. */
	if (!link_ready(w->link)) {
		w->idle.asked_ms = -1;
		return INT64_MAX;
	}
	due = w->idle.since_ms + limit_ms;
	if (w->idle.asked_ms < 0 && now_ms >= due)
		idle_ask(w, now_ms);
	if (w->idle.asked_ms < 0)
		return due;
	due = w->idle.asked_ms + REPLY_MS;
	if (now_ms >= due)
		idle_go(w, "no answer came");
	return due;
}
