/* The connection of the worker: dialling, what comes in, when to try again. */
#include "agent/worker/worker_priv.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/text.h"
#include "net/grpc.h"
#include <string.h>

#define CONNECT_PATH "/bullpen.worker.v1.WorkerLink/Connect"
#define MAX_UNSENT ((size_t)256 * 1024)
#define CONNECTED_ELSEWHERE_MS 60000
#define QUOTA_MS 300000
#define FITNESS_REASON_MAX 1024

static void say_fitness(struct worker_process *w)
{
	const char *reason = w->unfit_reason != NULL ? w->unfit_reason : "";

	link_send_fitness(w->link, w->unfit_code != NULL ? w->unfit_code : "", reason);
	w->fitness_said = true;
}

/* Also while there is no connection: if the link is resumed, what was said before is sent again, and this behind it. A
 * fresh start drops it, and the Hello before that has it, or on_welcome says it again. */
void worker_fitness(struct worker_process *w, const char *code, const char *reason)
{
	AUTO_STR line = text_line(reason, FITNESS_REASON_MAX);
	bool was_fit = w->unfit_code == NULL, fit = code[0] == '\0';

	if (fit ? was_fit : !was_fit && strcmp(code, w->unfit_code) == 0 && strcmp(line, w->unfit_reason) == 0)
		return;
	str_set(&w->unfit_code, fit ? NULL : code);
	str_set(&w->unfit_reason, fit ? NULL : line);
	w->fitness_said = false;
	if (fit)
		log_info("worker.fit", "worker=%s", w->cfg.identity->worker_id);
	else
		log_warn("worker.unfit", "code=%s reason=%s", code, log_quote(line));
	say_fitness(w);
	/* Between Hello and welcome: a fresh start would drop it. */
	w->fitness_said = link_ready(w->link);
	worker_poke(w);
}

static void on_welcome(struct worker_process *w, const Bullpen__Worker__V1__Welcome *m)
{
	str_set(&w->refused_word, NULL);
	w->welcomed_ms = clock_mono_ms();
	w->lost_ms = INT64_MAX;
	w->loss_grace_ms = (int64_t)MIN(m->loss_grace_ms, (uint64_t)INT32_MAX);
	w->refusal = (struct refusal_state){0};
	w->attempting = w->failed_before = false;
	auth_accepted(w->auth);
	w->tools_known = true;
	log_info("worker.connected", "worker=%s pool=%s resumed=%d", w->cfg.identity->worker_id,
	    w->cfg.options->pool != NULL ? w->cfg.options->pool : "", m->resumed);
	worker_announce(w);
	if (m->resumed)
		return;
	worker_idle_fresh(w);
	if (!w->fitness_said)
		say_fitness(w);
	calls_resend(w->calls);
	if (w->stop != STOP_NOT)
		link_send_going_away(w->link, "stopping", false);
}

static void on_refused(struct worker_process *w, const Bullpen__Worker__V1__Refuse *m)
{
	struct refusal_state *r = &w->refusal;

	w->tools_known = false;
	if (strncmp(r->code, m->code, sizeof r->code - 1) != 0)
		r->since_ms = 0;
	if (r->since_ms == 0)
		r->since_ms = clock_mono_ms();
	r->here = true;
	r->fatal = m->fatal;
	r->retry_after_ms = m->retry_after_ms;
	snprintf(r->code, sizeof r->code, "%s", m->code);
	snprintf(r->message, sizeof r->message, "%s", m->message);
	worker_hang_up(w);
}

static void on_release(struct worker_process *w, const Bullpen__Worker__V1__Release *m)
{
	log_info("worker.released", "reason=%s exit=%d", log_quote(m->reason), m->exit);
	turns_end_all(w->turns, SESSION_END_SESSION_ABORTED);
	if (m->exit)
		worker_stop(w, STOP_ABORT, EXIT_DONE, m->reason);
	else
		calls_close_session(w->calls, "aborted", 0);
}

static void link_on_event(struct worker_process *w, const struct link_event *e)
{
	switch (e->kind) {
	case LINK_WELCOME:
		on_welcome(w, e->welcome);
		break;
	case LINK_REFUSED:
		on_refused(w, e->refuse);
		break;
	case LINK_CALL:
		log_debug("worker.call", "call=%s kind=%d", log_quote(e->call->call_id), (int)e->call->kind);
		turns_call(w->turns, e->call);
		calls_start(w->calls, e->call, clock_mono_ms());
		break;
	case LINK_CANCEL:
		turns_cancel(w->turns, e->cancel->call_id);
		calls_cancel(w->calls, e->cancel->call_id);
		break;
	case LINK_RESULT_ACK:
		calls_acknowledge(w->calls, e->result_ack->call_id);
		break;
	case LINK_RELEASE:
		on_release(w, e->release);
		break;
	case LINK_GOING_AWAY_REPLY:
		worker_idle_reply(w, e->going_away_reply->stay);
		break;
	case LINK_HELLO:
	case LINK_OUTPUT:
	case LINK_RESULT:
	case LINK_GOING_AWAY:
	case LINK_FITNESS:
	case LINK_SESSION_NEWS:
		break; /* what servers get */
	}
}

static void on_open(void *ctx)
{
	struct worker_process *w = OBJ_FROM(worker_process, ctx, WORKER_MAGIC);

	w->open = true;
	if (w->closing)
		return;
	worker_send_hello(w);
	worker_flush(w);
	worker_poke(w);
}

static void link_on_data(void *ctx, const void *bytes, size_t len)
{
	struct worker_process *w = OBJ_FROM(worker_process, ctx, WORKER_MAGIC);
	struct link_event e;
	struct why why = {""};
	int rc;

	if (w->closing || !link_attached(w->link))
		return;
	atomic_store(&w->cfg.figures->last_activity_s, clock_wall_ms() / 1000);
	rc = link_feed(w->link, bytes, len, clock_mono_ms(), &why);
	while (link_next(w->link, &e) == OK)
		link_on_event(w, &e);
	if (rc != OK) {
		log_warn("worker.link.broken", "reason=%s", log_quote(why.text));
		w->lost_how = SESSION_END_STREAM_ERROR;
		worker_hang_up(w);
	}
	worker_flush(w);
	worker_poke(w);
}

static void on_drain(void *ctx)
{
	worker_flush(OBJ_FROM(worker_process, ctx, WORKER_MAGIC));
}

static void plan_redial(struct worker_process *w, int64_t asked_ms)
{
	int64_t now = clock_mono_ms(), lived = w->welcomed_ms >= 0 ? now - w->welcomed_ms : -1;
	int64_t delay = backoff_next(&w->backoff, lived, asked_ms, (uint32_t)id_random64());

	log_info("worker.reconnect", "in_ms=%lld", (long long)delay);
	w->redial_ms = now + delay;
}

/* The credential was refused; `code` says why, if the control plane did. */
static void after_bad_credential(struct worker_process *w, const char *code, const char *message)
{
	bool coded = strcmp(code, "unauthorized") != 0 && strcmp(code, "key_not_supported") != 0;
	AUTO_STR text = str_printf("%s%s%s", coded ? code : "", coded ? ": " : "", message);

	switch (auth_refused(w->auth, code, text)) {
	case AUTH_READY:
		log_info("worker.token.renewed", "code=%s", code);
		str_set(&w->refused_word, text);
		w->redial_ms = clock_mono_ms();
		break;
	case AUTH_LATER:
		plan_redial(w, w->refusal.retry_after_ms);
		break;
	default:
		worker_fail(w, EXIT_CREDENTIAL, text);
	}
}

static void after_refusal(struct worker_process *w)
{
	const struct refusal_state *r = &w->refusal;
	int64_t since = clock_mono_ms() - r->since_ms;

	log_warn("worker.refused", "code=%s message=%s", log_quote(r->code), log_quote(r->message));
	if (auth_is_about(r->code)) {
		after_bad_credential(w, r->code, r->message);
	} else if (strcmp(r->code, "worker_connected") == 0) {
		/* The old connection of this very worker may not be dead for the control plane yet. */
		if (since >= CONNECTED_ELSEWHERE_MS && !w->cfg.identity->generated) {
			worker_fail(w, EXIT_REFUSED, r->message);
			return;
		}
		if (since >= CONNECTED_ELSEWHERE_MS) {
			identity_renew(w->cfg.identity);
			w->refusal.since_ms = 0;
			log_warn("worker.identity.renewed", "worker=%s", w->cfg.identity->worker_id);
		}
		plan_redial(w, r->retry_after_ms);
	} else if (strcmp(r->code, "quota_exceeded") == 0) {
		if (since >= QUOTA_MS)
			worker_fail(w, EXIT_REFUSED, r->message);
		else
			plan_redial(w, r->retry_after_ms);
	} else if (r->fatal) {
		worker_fail(w, EXIT_REFUSED, r->message);
	} else {
		plan_redial(w, r->retry_after_ms);
	}
}

static bool is_unauthorized(const struct h2_close *why)
{
	return why->grpc_status == GRPC_UNAUTHENTICATED || why->grpc_status == GRPC_PERMISSION_DENIED ||
	       why->http_status == 401 || why->http_status == 403;
}

/* How sessions end that do not come back from this. What was said before a local close stays. */
static void remember_loss(struct worker_process *w, const struct h2_close *why)
{
	switch (why->kind) {
	case H2_CLOSE_GOAWAY:
		w->lost_how = SESSION_END_SESSION_CLOSED;
		break;
	case H2_CLOSE_STATUS:
	case H2_CLOSE_RESET:
		w->lost_how = SESSION_END_STREAM_ERROR;
		break;
	case H2_CLOSE_IO:
		w->lost_how = SESSION_END_SESSION_ERROR;
		break;
	case H2_CLOSE_CONNECT:
	case H2_CLOSE_LOCAL:
		break;
	}
}

static void link_on_close(void *ctx, const struct h2_close *why)
{
	struct worker_process *w = OBJ_FROM(worker_process, ctx, WORKER_MAGIC);
	bool refused = w->refusal.here;

	remember_loss(w, why);
	w->failed_before = w->welcomed_ms < 0;
	w->attempting = false;
	w->stream = NULL;
	w->open = w->closing = false;
	w->refusal.here = false;
	if (link_attached(w->link))
		link_detach(w->link);
	if (w->lost_ms == INT64_MAX)
		w->lost_ms = clock_mono_ms();
	if (w->stop < STOP_CLOSE) {
		log_info("worker.disconnected", "kind=%d http=%d grpc=%d reason=%s", (int)why->kind, why->http_status,
		    why->grpc_status, log_quote(why->text));
		if (refused)
			after_refusal(w);
		else if (is_unauthorized(why))
			after_bad_credential(w, "unauthorized",
			    why->text[0] != '\0' ? why->text : "the control plane does not accept the credential");
		else
			plan_redial(w, 0);
	}
	worker_poke(w);
}

static void dial_with(struct worker_process *w, const char *token)
{
	AUTO_STR url = str_printf("%s" CONNECT_PATH, w->cfg.options->endpoint);
	AUTO_STR bearer = str_printf("Bearer %s", token);
	const struct http_header headers[] = {{"authorization", bearer}, {"content-type", "application/grpc"},
	    {"te", "trailers"}, {"user-agent", "bullpen-agent/" BULLPEN_VERSION}};
	const struct h2_stream_config cfg = {.url = url,
	    .headers = headers,
	    .n_headers = ARRAY_LEN(headers),
	    .ctx = w,
	    .on_open = on_open,
	    .on_data = link_on_data,
	    .on_drain = on_drain,
	    .on_close = link_on_close};

	log_debug("worker.dial", "endpoint=%s", log_quote(w->cfg.options->endpoint));
	if (h2_stream_dial(&w->loop, &cfg, &w->stream) != OK) {
		w->stream = NULL;
		w->attempting = false;
		w->failed_before = true;
		plan_redial(w, 0);
	}
	explicit_bzero(bearer, strlen(bearer));
}

/* One attempt is everything from asking for a token to the welcome. */
static void count_attempt(struct worker_process *w)
{
	if (w->attempting)
		return;
	w->attempting = true;
	atomic_fetch_add(&w->cfg.figures->attempts, 1);
	if (w->failed_before)
		atomic_fetch_add(&w->cfg.figures->retries, 1);
}

void worker_dial(struct worker_process *w)
{
	const char *token = NULL;
	struct why why = {""};
	int64_t wait_ms = 0;
	enum auth_answer answer;

	w->redial_ms = INT64_MAX;
	w->welcomed_ms = -1;
	w->authenticating = false;
	answer = auth_take(w->auth, &token, &wait_ms, &why);
	if (answer != AUTH_SOON)
		count_attempt(w);
	switch (answer) {
	case AUTH_READY:
		dial_with(w, token);
		break;
	case AUTH_PENDING:
		w->authenticating = true;
		break;
	case AUTH_SOON:
		w->redial_ms = clock_mono_ms() + AUTH_SOON_MS;
		break;
	case AUTH_LATER:
		w->attempting = false;
		w->failed_before = true;
		log_info("worker.disconnected", "reason=%s", log_quote(why.text));
		plan_redial(w, wait_ms);
		break;
	case AUTH_OVER:
		/* What was said first is the reason; the exchange only says that the key is no good. */
		worker_fail(w, EXIT_CREDENTIAL, w->refused_word != NULL ? w->refused_word : why.text);
		break;
	}
}

void worker_woke_up(struct worker_process *w, int64_t slept_ms)
{
	log_info("worker.woke", "slept_ms=%lld connected=%d", (long long)slept_ms, w->stream != NULL);
	w->backoff = (struct backoff){0};
	if (w->stream != NULL && w->open) {
		w->lost_how = SESSION_END_SESSION_ERROR;
		worker_hang_up(w);
	} else if (w->stream == NULL && !w->authenticating && w->stop <= STOP_DRAIN) {
		w->redial_ms = clock_mono_ms();
	}
	worker_poke(w);
}

void worker_flush(struct worker_process *w)
{
	const void *bytes;
	size_t n;

	while (w->open && !w->closing && link_attached(w->link) && h2_stream_unsent(w->stream) < MAX_UNSENT) {
		n = link_out(w->link, &bytes);
		if (n == 0 || h2_stream_write(w->stream, bytes, n) != OK)
			return;
		link_sent(w->link, n);
	}
}

void worker_hang_up(struct worker_process *w)
{
	if (w->stream == NULL || w->closing)
		return;
	w->closing = true;
	h2_stream_close(w->stream);
}
