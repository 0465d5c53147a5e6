/* How a worker ends: by a signal, by release, by refusal. */
#include "agent/worker/worker_priv.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/terminal.h"
#include <poll.h>
#include <signal.h>
#include <unistd.h>

#define ABORT_MS 6000
#define DELIVER_MS 2000
#define CLOSE_MS 5000
/* What hooks of sessionEnd may take on top; without any it takes nothing. */
#define END_HOOKS_MS 10000
#define END_HOOKS_IDLE_MS 60000
#define BYE_MS 1500
#define FORCE_MS 3500

static void enter_phase(struct worker_process *w, enum stop_phase phase, int64_t limit_ms)
{
	w->stop = phase;
	w->stop_deadline_ms = clock_mono_ms() + limit_ms;
}

void worker_stop(struct worker_process *w, enum stop_phase phase, int exit_status, const char *reason)
{
	if (w->stop == STOP_NOT) {
		log_info("worker.stop", "reason=%s calls=%zu", log_quote(reason), calls_active(w->calls));
		w->exit_status = exit_status;
		calls_refuse(w->calls, "worker_stopping", "the worker is stopping and takes no more work");
		if (link_ready(w->link) && !w->said_goodbye)
			link_send_going_away(w->link, reason, false);
	} else if (w->stop >= phase) {
		return;
	}
	if (phase == STOP_ABORT)
		calls_cancel_all(w->calls);
	enter_phase(w, phase, phase == STOP_DRAIN ? w->cfg.options->stop_grace_s * 1000 : ABORT_MS);
	worker_poke(w);
}

void worker_fail(struct worker_process *w, int exit_status, const char *message)
{
	AUTO_STR clean = terminal_clean(message, TERMINAL_LINE);

	fprintf(stderr, "error: %s\n", clean);
	w->exit_status = exit_status;
	worker_stop(w, STOP_ABORT, exit_status, message);
}

static bool phase_is_over(const struct worker_process *w, int64_t now_ms)
{
	if (now_ms >= w->stop_deadline_ms)
		return true;
	switch (w->stop) {
	case STOP_DRAIN:
	case STOP_ABORT:
	case STOP_CLOSE:
		return calls_active(w->calls) == 0;
	case STOP_DELIVER:
		return !link_ready(w->link) || calls_unacknowledged(w->calls) == 0;
	case STOP_BYE:
		return w->stream == NULL;
	default:
		return false;
	}
}

static void next_phase(struct worker_process *w)
{
	switch (w->stop) {
	case STOP_DRAIN:
		calls_cancel_all(w->calls);
		enter_phase(w, STOP_ABORT, ABORT_MS);
		break;
	case STOP_ABORT:
		enter_phase(w, STOP_DELIVER, DELIVER_MS);
		break;
	case STOP_DELIVER:
		if (calls_open_agent(w->calls)[0] != '\0')
			calls_close_session(
			    w->calls, w->idle.over ? "completed" : "aborted", w->idle.over ? 0 : END_HOOKS_MS);
		enter_phase(w, STOP_CLOSE, CLOSE_MS + (w->idle.over ? END_HOOKS_IDLE_MS : END_HOOKS_MS));
		break;
	case STOP_CLOSE:
		worker_flush(w);
		worker_hang_up(w);
		enter_phase(w, STOP_BYE, BYE_MS);
		break;
	default:
		w->stop = STOP_OVER;
		uv_stop(&w->loop);
	}
}

int64_t worker_stop_step(struct worker_process *w, int64_t now_ms)
{
	while (w->stop != STOP_NOT && w->stop != STOP_OVER && phase_is_over(w, now_ms))
		next_phase(w);
	return w->stop == STOP_NOT || w->stop == STOP_OVER ? INT64_MAX : w->stop_deadline_ms;
}

/* The second signal: nothing may be left running, and nothing else is waited for. */
static _Noreturn void end_by_force(struct worker_process *w, int signum)
{
	log_warn("worker.stop.forced", "calls=%zu", calls_active(w->calls));
	calls_cancel_all(w->calls);
	calls_kill_programs(w->calls);
	for (int i = 0; i < FORCE_MS / 10 && calls_active(w->calls) > 0; i++) {
		calls_pump(w->calls, clock_mono_ms());
		poll(NULL, 0, 10);
	}
	if (calls_active(w->calls) == 0)
		calls_close_here(w->calls);
	_exit(128 + signum);
}

void worker_signal(struct worker_process *w, int signum)
{
	if (w->stop != STOP_NOT)
		end_by_force(w, signum);
	worker_stop(w, signum == SIGINT ? STOP_ABORT : STOP_DRAIN, EXIT_DONE,
	    signum == SIGINT ? "interrupted (SIGINT)" : "terminated (SIGTERM)");
}
