#include "agent/worker/calls.h"
#include "agent/worker/calls_priv.h"
#include "base/sanitized.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

/* Results that nobody acknowledges; beyond that no new work is taken. */
#define MAX_KEPT_BYTES ((size_t)64 * 1024 * 1024)
#define CALL_STACK ((size_t)(SANITIZED ? 2048 : 256) * 1024)

void session_news_free(struct session_news **np)
{
	struct session_news *n = TAKE(*np);

	if (n == NULL)
		return;
	free(n->agent_id);
	free(n->claim_id);
	free(n->json);
	free(n);
}

static void drop_news(void *msg)
{
	struct session_news *n = msg;

	session_news_free(&n);
}

/* Any thread. */
static void add_news(void *ctx, const char *agent_id, const char *claim_id, const char *json)
{
	struct calls *c = ctx;
	struct session_news *n = NEW(struct session_news);

	*n = (struct session_news){str_dup(agent_id), str_dup(claim_id), str_dup(json)};
	if (mailbox_post_always(c->news, n) != OK)
		session_news_free(&n);
	else
		c->cfg.wake(c->cfg.ctx);
}

struct calls *calls_new(const struct calls_config *cfg)
{
	struct calls *c = NEW(struct calls);

	c->magic = CALLS_MAGIC;
	c->owner = pthread_self();
	c->cfg = *cfg;
	seats_init(c);
	/* One message for each running call at most. */
	c->done = mailbox_new(CALLS_MAX, NULL);
	c->news = mailbox_new(CALLS_MAX, drop_news);
	return c;
}

void calls_free(struct calls **cp)
{
	struct calls *c = TAKE(*cp);

	if (c == NULL)
		return;
	calls_check(c);
	ENSURE(c->n_running == 0);
	/* A thread whose message was taken may be between that and its last instruction here. */
	while (atomic_load(&c->threads) > 0)
		sched_yield();
	while (c->head != NULL)
		call_remove(c, c->head);
	for (size_t i = 0; i < CALLS_PAST; i++)
		str_free(&c->past[i]);
	mailbox_free(&c->done);
	mailbox_free(&c->news);
	seats_fini(c);
	free(c);
}

static void call_thread(void *arg)
{
	struct call_entry *call = arg;
	struct calls *c = call->owner;

	c->cfg.run(&call->job);
	/* From here on the loop owns the call. */
	ENSURE(mailbox_post_always(c->done, call) == OK);
	c->cfg.wake(c->cfg.ctx);
	atomic_fetch_sub(&c->threads, 1);
}

static void output_wake(void *ctx)
{
	struct calls *c = ctx;

	c->cfg.wake(c->cfg.ctx);
}

static void add_output(void *ctx, int stream, const void *data, size_t len)
{
	outflow_add(ctx, stream, data, len);
}

static bool calls_send_output(void *ctx, int stream, const void *data, size_t len)
{
	struct call_entry *call = ctx;
	struct calls *c = call->owner;

	/* Only a full outbox is worth a second attempt. */
	return c->cfg.send_output(c->cfg.ctx, call->job.call_id, stream, data, len) != ERR_FULL;
}

static void finish_call(struct calls *c, struct call_entry *call)
{
	call_set_state(call, CALL_FINISHED);
	if (call->internal)
		call_remove(c, call);
	else
		call_send_result(c, call);
}

static void start_thread(struct calls *c, struct call_entry *call)
{
	struct job *j = &call->job;

	j->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	call->out = outflow_new(output_wake, c);
	j->on_output = add_output;
	j->on_output_ctx = call->out;
	j->session = call->seat->session;
	j->clones = call->seat->clones;
	j->place = call->seat->n;
	j->news = add_news;
	j->news_ctx = c;
	j->project_mcp = c->cfg.project_mcp;
	call->started_ms = clock_mono_ms();
	atomic_fetch_add(&c->threads, 1);
	if (j->cancel_fd >= 0 && thread_start("call", CALL_STACK, call_thread, call) == OK) {
		call_set_state(call, CALL_RUNNING);
		c->n_running++;
		call->seat->n_running++;
		return;
	}
	atomic_fetch_sub(&c->threads, 1);
	job_error(j, "no_resources", "the worker has no thread or file descriptor left");
	finish_call(c, call);
}

static bool runs_alone(const struct call_entry *call)
{
	return call->job.handler != NULL && call->job.handler->exclusive;
}

/* Of one session's tools so many run at once that the others have their share. */
static bool has_thread(const struct calls *c, const struct seat *seat)
{
	size_t share = MAX(CALLS_MAX_RUNNING / c->n_seats, (size_t)4);

	return seat->n_running < share && c->n_running < CALLS_MAX_RUNNING;
}

/* Starts what may start, in each place by itself: tools side by side, calls that change the session alone and in their
 * turn. */
static void start_what_may_start(struct calls *c)
{
	struct call_entry *next;

	if (!seats_are_shared(c))
		IGNORE(seats_settle(c));
	for (size_t i = 0; i < c->n_seats; i++)
		c->seats[i].held_up = false;
	for (struct call_entry *call = c->head; call != NULL; call = next) {
		struct seat *seat = call->seat;
		bool alone = runs_alone(call);

		next = call->next;
		if (call->state == CALL_FINISHED || seat == NULL || seat->held_up)
			continue;
		seat->held_up = alone;
		if (call->state == CALL_QUEUED && (alone ? seat->n_running == 0 : has_thread(c, seat)))
			start_thread(c, call);
	}
}

static void cancel_call(struct calls *c, struct call_entry *call)
{
	if (call->state == CALL_FINISHED || call->cancelled)
		return;
	call->cancelled = true;
	call->cancelled_ms = clock_mono_ms();
	if (call->state == CALL_RUNNING) {
		IGNORE(eventfd_write(call->job.cancel_fd, 1));
		return;
	}
	job_error(&call->job, "cancelled", "the call was cancelled before it began");
	finish_call(c, call);
}

static bool is_of_claim(const struct job *j, const struct job *of)
{
	return strcmp(j->agent_id, of->agent_id) == 0 && strcmp(j->claim_id, of->claim_id) == 0;
}

/* A closing is never ended by another call, nor by the loss of the connection or the end of the worker: it is short,
 * what comes next waits for it anyway, and only its result can name the work that it kept. */
static bool may_be_ended(const struct call_entry *call)
{
	return !call->internal && (call->job.handler == NULL || call->job.handler->kind != CALL_CLOSE_SESSION);
}

/* Closings go on. */
static void cancel_everything(struct calls *c)
{
	struct call_entry *next;

	for (struct call_entry *call = c->head; call != NULL; call = next) {
		next = call->next;
		if (may_be_ended(call))
			cancel_call(c, call);
	}
}

/* What this call ends by its arrival; it does not wait for it, it only asks. */
static void cancel_for(struct calls *c, const struct call_entry *arrived)
{
	const struct call_handler *h = arrived->job.handler;
	struct call_entry *next;

	if (h == NULL || h->ends == ENDS_NONE)
		return;
	for (struct call_entry *call = c->head; call != NULL; call = next) {
		next = call->next;
		if (call == arrived || !may_be_ended(call))
			continue;
		/* What is in another place is no business of an opening's, and one that waits is in none. */
		if (h->ends == ENDS_OF_OTHER_CLAIMS && (arrived->seat == NULL || call->seat != arrived->seat))
			continue;
		if (is_of_claim(&call->job, &arrived->job) == (h->ends == ENDS_OF_ITS_CLAIM))
			cancel_call(c, call);
	}
}

static const char *reason_to_refuse(const struct calls *c, const char **ret_message)
{
	if (c->refuse_code != NULL) {
		*ret_message = c->refuse_message;
		return c->refuse_code;
	}
	if (c->kept_bytes > MAX_KEPT_BYTES) {
		*ret_message = "the control plane does not acknowledge results";
		return "too_many_results";
	}
	return NULL;
}

static void answer_unknown(struct calls *c, const char *call_id, const char *code, const char *message)
{
	struct call_entry *call = call_add(c, call_id);

	job_error(&call->job, code, "%s", message);
	finish_call(c, call);
	call_remove(c, call);
}

/* Its agent has no session here: there is nothing to be done, so it takes no time either. */
static void answer_without_session(struct calls *c, struct call_entry *call)
{
	call->job.session = NULL;
	job_run(&call->job);
	finish_call(c, call);
}

void calls_start(struct calls *c, const Bullpen__Worker__V1__Call *m, int64_t now_mono_ms)
{
	struct call_entry *call = call_find(c, m->call_id);
	const char *code, *message;

	calls_check(c);
	if (call != NULL) {
		if (call->state == CALL_FINISHED)
			call_send_result(c, call);
		return;
	}
	if (call_is_past(c, m->call_id)) {
		answer_unknown(c, m->call_id, "already_done", "the call was done and its result acknowledged");
		return;
	}
	if (c->n >= CALLS_MAX) {
		answer_unknown(c, m->call_id, "too_many_calls", "the worker has too many calls");
		return;
	}
	call = call_add(c, m->call_id);
	call_read(call, m, now_mono_ms);
	code = reason_to_refuse(c, &message);
	if (code != NULL) {
		job_error(&call->job, code, "%s", message);
		finish_call(c, call);
		return;
	}
	seat_call(c, call, now_mono_ms);
	cancel_for(c, call);
	if (call->seat == NULL && !seat_is_awaited(call)) {
		answer_without_session(c, call);
		return;
	}
	start_what_may_start(c);
}

void calls_cancel(struct calls *c, const char *call_id)
{
	struct call_entry *call = call_find(c, call_id);

	if (call != NULL)
		cancel_call(c, call);
	start_what_may_start(c);
}

void calls_acknowledge(struct calls *c, const char *call_id)
{
	struct call_entry *call = call_find(c, call_id);

	if (call == NULL || call->state != CALL_FINISHED)
		return;
	call_remember(c, call_id);
	call_remove(c, call);
}

void calls_resend(struct calls *c)
{
	calls_check(c);
	for (struct call_entry *call = c->head; call != NULL; call = call->next)
		if (call->state == CALL_FINISHED && !call->internal)
			call_send_result(c, call);
	seats_repeat_news(c);
}

static void take_finished(struct calls *c, int64_t now_mono_ms)
{
	void *msg;

	while (mailbox_receive(c->done, 0, &msg) == OK) {
		struct call_entry *call = msg;

		c->n_running--;
		call->seat->n_running--;
		call->duration_ms = (uint64_t)MAX(now_mono_ms - call->started_ms, 0);
		/* What does not fit now is in the result. */
		outflow_pump(call->out, now_mono_ms, true, calls_send_output, call);
		outflow_free(&call->out);
		if (runs_alone(call))
			seat_take_outcome(call);
		close(call->job.cancel_fd);
		call->job.cancel_fd = -1;
		if (call->job.unfit_reason != NULL && c->cfg.unfit != NULL)
			c->cfg.unfit(c->cfg.ctx, call->job.unfit_code, call->job.unfit_reason);
		finish_call(c, call);
	}
}

/* The control plane gives no more than there is room for, so a place should have become free in that time. */
static void refuse_without_place(struct calls *c, int64_t now_mono_ms)
{
	struct call_entry *next;

	if (seats_are_shared(c) || seats_settle(c) > now_mono_ms)
		return;
	for (struct call_entry *call = c->head; call != NULL; call = next) {
		next = call->next;
		if (!seat_is_awaited(call) || now_mono_ms < call->seat_until_ms)
			continue;
		job_error(&call->job, "worker_full", "this worker serves %zu agents already", c->n_seats);
		finish_call(c, call);
	}
}

int64_t calls_pump(struct calls *c, int64_t now_mono_ms)
{
	int64_t next = INT64_MAX;

	calls_check(c);
	take_finished(c, now_mono_ms);
	seats_tell_news(c);
	refuse_without_place(c, now_mono_ms);
	start_what_may_start(c);
	if (!seats_are_shared(c))
		next = seats_settle(c);
	for (struct call_entry *call = c->head; call != NULL; call = call->next) {
		if (call->state != CALL_FINISHED && now_mono_ms >= call->give_up_ms) {
			call->give_up_ms = INT64_MAX;
			cancel_call(c, call);
		}
		if (call->state == CALL_FINISHED)
			continue;
		next = MIN(next, call->give_up_ms);
		if (call->state == CALL_RUNNING)
			next = MIN(next, outflow_pump(call->out, now_mono_ms, false, calls_send_output, call));
	}
	return next;
}

void calls_refuse(struct calls *c, const char *code, const char *message)
{
	c->refuse_code = code;
	c->refuse_message = message;
}

void calls_cancel_all(struct calls *c)
{
	calls_check(c);
	cancel_everything(c);
	start_what_may_start(c);
}

static void close_seat(struct calls *c, struct seat *seat, const char *reason, int64_t limit_ms)
{
	struct call_entry *call = call_add(c, "close");

	call->internal = true;
	call->seat = seat;
	call->job.handler = call_handler_find(CALL_CLOSE_SESSION);
	call->job.any_session = true;
	call->job.end_reason = reason;
	call->job.end_limit_ms = limit_ms;
}

void calls_close_session(struct calls *c, const char *reason, int64_t limit_ms)
{
	cancel_everything(c);
	for (size_t i = 0; i < c->n_seats; i++) {
		struct seat *seat = &c->seats[i];

		if (seats_are_shared(c) || seat->open_agent[0] != '\0' || seat_has_calls(c, seat))
			close_seat(c, seat, reason, limit_ms);
	}
	start_what_may_start(c);
}

size_t calls_active(const struct calls *c)
{
	size_t n = 0;

	for (const struct call_entry *call = c->head; call != NULL; call = call->next)
		n += call->state != CALL_FINISHED;
	return n;
}

size_t calls_unacknowledged(const struct calls *c)
{
	return c->n - calls_active(c);
}

bool calls_stuck(const struct calls *c, int64_t now_mono_ms)
{
	for (const struct call_entry *call = c->head; call != NULL; call = call->next)
		if (call->state == CALL_RUNNING && call->cancelled &&
		    now_mono_ms - call->cancelled_ms >= CALLS_STUCK_MS)
			return true;
	return false;
}

void calls_fill_hello(struct calls *c, Bullpen__Worker__V1__Hello *h)
{
	h->n_calls = 0;
	h->calls = c->state_list;
	for (const struct call_entry *call = c->head; call != NULL && h->n_calls < CALLS_MAX; call = call->next) {
		Bullpen__Worker__V1__CallState *s = &c->states[h->n_calls];

		if (call->internal)
			continue;
		bullpen__worker__v1__call_state__init(s);
		s->call_id = call->job.call_id;
		s->finished = call->state == CALL_FINISHED;
		c->state_list[h->n_calls++] = s;
	}
	seats_fill_hello(c, h);
}
