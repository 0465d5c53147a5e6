#include "agent/mcp/server.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/redact.h"
#include "base/sanitized.h"
#include "base/text.h"
#include "mcp/eras.h"
#include "mcp/tools.h"
#include <pthread.h>
#include <string.h>

#define STACK ((size_t)(SANITIZED ? 2048 : 256) * 1024)
#define RESTARTS_MAX 5
#define RESTARTS_IN_MS (10 * 60 * 1000)
#define LIST_AFTER_MS 500 /* a storm of changes is one change */
#define PING_AFTER_MS 60000
#define UNSENT_LOOK_MS 50
#define LOOK_MS 5000

struct mcp_server {
	struct mcp_definition d;
	struct mcp_server_config cfg;
	atomic_bool stop;
	int64_t restarts[RESTARTS_MAX]; /* when it was started anew; the keeper's */
	size_t n_restarts;

	pthread_mutex_t lock; /* before a process's */
	pthread_cond_t cond;
	bool over; /* the keeper has ended */
	json_t *entry;
	bool starting, ready;
	bool failed; /* for good, without ever having been ready */
	struct mcp_process *process; /* may be called while `ready` */
	unsigned callers; /* inside the process */
	int64_t changed_ms; /* since when its list is out of date; 0: it is not */
};

/* Of this worker: servers are started anew, and in other sessions. */
static struct mcp_eras eras = MCP_ERAS_INIT;

/* With the reason redacted by whoever made it. */
static void set_entry(struct mcp_server *s, const char *state, const char *reason, const char *instructions,
    json_t *tools, json_t *warnings)
{
	json_t *entry = mcp_entry_new(s->d.name, state, reason, instructions, tools, warnings);

	redact_json(s->d.redactor, &entry);
	pthread_mutex_lock(&s->lock);
	json_decref(s->entry);
	s->entry = entry;
	s->starting = strcmp(state, "starting") == 0;
	s->ready = strcmp(state, "ready") == 0;
	pthread_mutex_unlock(&s->lock);
	if (strcmp(state, "failed") == 0 || strcmp(state, "off") == 0)
		log_warn("mcp.server.failed", "server=%s state=%s reason=%s", log_quote(s->d.name), state,
		    log_quote(reason));
	else
		log_info(
		    "mcp.server", "server=%s state=%s tools=%zu", log_quote(s->d.name), state, json_array_size(tools));
	s->cfg.changed(s->cfg.ctx);
}

static void on_tools_changed(void *ctx)
{
	struct mcp_server *s = ctx;

	pthread_mutex_lock(&s->lock);
	if (s->changed_ms == 0)
		s->changed_ms = clock_mono_ms();
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

static void on_ended(void *ctx)
{
	struct mcp_server *s = ctx;

	pthread_mutex_lock(&s->lock);
	pthread_cond_signal(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

/* Until then, or until something happens that is for the keeper. */
static void keeper_wait(struct mcp_server *s, int64_t until_ms)
{
	const struct timespec ts = {.tv_sec = until_ms / 1000, .tv_nsec = until_ms % 1000 * 1000000};

	pthread_mutex_lock(&s->lock);
	if (!atomic_load(&s->stop))
		pthread_cond_timedwait(&s->cond, &s->lock, &ts);
	pthread_mutex_unlock(&s->lock);
}

/* Asks for the tools and says what there is. */
static int list_tools(struct mcp_server *s, struct mcp_session *session, struct why *why)
{
	AUTO_JSON tools = NULL;
	AUTO_JSON warnings = NULL;
	int rc;

	pthread_mutex_lock(&s->lock);
	s->changed_ms = 0;
	pthread_mutex_unlock(&s->lock);
	rc = mcp_session_list(session, &s->stop, &tools, &warnings, why);
	if (rc == OK)
		set_entry(s, "ready", NULL, mcp_session_instructions(session), tools, warnings);
	return rc;
}

/* Pings a silent one. ERR_TIMEOUT: it did not answer twice. */
static int look_after(struct mcp_server *s, struct mcp_process *p, struct why *why)
{
	int rc = OK;

	for (int i = 0; i < 2; i++) {
		rc = mcp_session_ping(mcp_process_session(p), &s->stop, why);
		if (rc != ERR_TIMEOUT)
			return OK;
	}
	return why_set(why, rc, "it does not answer any more");
}

/* While it runs. OK: it has ended, or shall; else what is wrong with it. */
static int keep_running(struct mcp_server *s, struct mcp_process *p, struct why *why)
{
	int rc = OK;

	while (rc == OK && !atomic_load(&s->stop) && !mcp_process_has_ended(p)) {
		int64_t now = clock_mono_ms(), until = now + LOOK_MS, changed;
		/* A modern one is not pinged. */
		int64_t quiet_left = mcp_session_is_modern(mcp_process_session(p))
					 ? LOOK_MS
					 : s->cfg.ping_after_ms - mcp_process_silence_ms(p);

		pthread_mutex_lock(&s->lock);
		changed = s->changed_ms;
		pthread_mutex_unlock(&s->lock);
		until = MIN(until, now + MAX(quiet_left, 0));
		mcp_process_flush(p);
		if (mcp_process_has_unsent(p))
			until = now + UNSENT_LOOK_MS;
		if (changed != 0 && now - changed >= LIST_AFTER_MS)
			rc = list_tools(s, mcp_process_session(p), why);
		else if (quiet_left <= 0)
			rc = look_after(s, p, why);
		else
			keeper_wait(s, changed != 0 ? MIN(until, changed + LIST_AFTER_MS) : until);
	}
	return rc;
}

/* One start, to its end. *ret_reason (malloc'ed): why it is not there any more; NULL: it was asked to stop. Says
 * whether it had been ready. */
static bool run_once(struct mcp_server *s, char **ret_reason)
{
	struct mcp_process *p = NULL;
	struct why why = {""};
	bool was_ready = false;
	int rc = mcp_process_new(&(struct mcp_process_config){.definition = &s->d,
				     .session = s->cfg.session,
				     .tools_changed = on_tools_changed,
				     .ended = on_ended,
				     .ctx = s,
				     .times = s->cfg.times},
	    &p, &why);

	if (rc == OK) {
		pthread_mutex_lock(&s->lock);
		s->process = p;
		pthread_mutex_unlock(&s->lock);
		mcp_session_prefer(mcp_process_session(p), s->d.protocol, mcp_eras_is_modern(&eras, s->d.identity));
		rc = mcp_session_initialize(mcp_process_session(p), &s->stop, &why);
		if (rc == OK)
			mcp_eras_note(&eras, s->d.identity, mcp_session_is_modern(mcp_process_session(p)));
	}
	if (rc == OK)
		rc = list_tools(s, mcp_process_session(p), &why);
	was_ready = rc == OK;
	if (rc == OK)
		rc = keep_running(s, p, &why);
	if (!atomic_load(&s->stop)) {
		AUTO_STR fault = p != NULL ? mcp_process_fault(p) : str_dup("");
		bool own = rc != OK && rc != ERR_CLOSED;

		*ret_reason =
		    str_printf("%s%s%s", own ? why.text : fault, own && fault[0] != '\0' ? "; " : "", own ? fault : "");
	}
	pthread_mutex_lock(&s->lock);
	s->ready = false;
	if (p != NULL)
		mcp_session_close(mcp_process_session(p), "the MCP server is being ended");
	while (s->callers > 0)
		pthread_cond_wait(&s->cond, &s->lock);
	s->process = NULL;
	pthread_mutex_unlock(&s->lock);
	mcp_process_free(&p);
	return was_ready;
}

/* How long to wait before the next start; -1: there is none. */
static int64_t restart_delay(struct mcp_server *s)
{
	int64_t now = clock_mono_ms();
	size_t kept = 0;

	for (size_t i = 0; i < s->n_restarts; i++)
		if (now - s->restarts[i] < RESTARTS_IN_MS)
			s->restarts[kept++] = s->restarts[i];
	s->n_restarts = kept;
	if (kept == RESTARTS_MAX)
		return -1;
	s->restarts[s->n_restarts++] = now;
	return 1000LL << kept;
}

static void keeper(void *arg)
{
	struct mcp_server *s = arg;
	bool goes_on = s->d.fault == NULL;

	while (goes_on && !atomic_load(&s->stop)) {
		AUTO_STR reason = NULL;
		bool was_ready = run_once(s, &reason);
		int64_t delay;

		if (reason == NULL)
			break;
		/* One that never worked will not by being started again. */
		delay = was_ready || s->n_restarts > 0 ? restart_delay(s) : -1;
		goes_on = delay >= 0;
		if (goes_on) {
			AUTO_STR text = str_printf("%s; it is started again", reason);
			int64_t until = clock_mono_ms() + delay;

			set_entry(s, "failed", text, NULL, NULL, NULL);
			while (!atomic_load(&s->stop) && clock_mono_ms() < until)
				keeper_wait(s, until);
		} else {
			pthread_mutex_lock(&s->lock);
			s->failed = s->n_restarts == 0;
			pthread_mutex_unlock(&s->lock);
			set_entry(s, s->n_restarts > 0 ? "off" : "failed", reason, NULL, NULL, NULL);
		}
	}
	pthread_mutex_lock(&s->lock);
	s->over = true;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

struct mcp_server *mcp_server_new(struct mcp_definition *d, const struct mcp_server_config *cfg)
{
	struct mcp_server *s = NEW(struct mcp_server);
	pthread_condattr_t attr;

	s->d = *d;
	*d = (struct mcp_definition){0};
	s->cfg = *cfg;
	if (s->cfg.ping_after_ms == 0)
		s->cfg.ping_after_ms = PING_AFTER_MS;
	pthread_mutex_init(&s->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&s->cond, &attr);
	pthread_condattr_destroy(&attr);
	s->starting = s->d.fault == NULL;
	s->entry = mcp_entry_new(s->d.name, s->starting ? "starting" : "failed", s->d.fault, NULL, NULL, NULL);
	if (thread_start("mcp-server", STACK, keeper, s) != OK) {
		json_decref(s->entry);
		s->entry = mcp_entry_new(s->d.name, "failed", "the worker has no thread left", NULL, NULL, NULL);
		s->starting = false;
		s->over = true;
	}
	return s;
}

void mcp_server_stop(struct mcp_server *s)
{
	pthread_mutex_lock(&s->lock);
	atomic_store(&s->stop, true);
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
}

void mcp_server_free(struct mcp_server **sp)
{
	struct mcp_server *s = TAKE(*sp);

	if (s == NULL)
		return;
	mcp_server_stop(s);
	pthread_mutex_lock(&s->lock);
	while (!s->over)
		pthread_cond_wait(&s->cond, &s->lock);
	pthread_mutex_unlock(&s->lock);
	mcp_definition_fini(&s->d);
	json_decref(s->entry);
	pthread_cond_destroy(&s->cond);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

const char *mcp_server_name(const struct mcp_server *s)
{
	return s->d.name;
}

const char *mcp_server_command_line(const struct mcp_server *s)
{
	return s->d.command_line;
}

const json_t *mcp_server_written(const struct mcp_server *s)
{
	return s->d.written;
}

const char *mcp_server_identity(const struct mcp_server *s)
{
	return s->d.identity;
}

bool mcp_server_has_failed(struct mcp_server *s)
{
	bool yes;

	pthread_mutex_lock(&s->lock);
	yes = s->failed;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

bool mcp_server_is_starting(struct mcp_server *s)
{
	bool yes;

	pthread_mutex_lock(&s->lock);
	yes = s->starting;
	pthread_mutex_unlock(&s->lock);
	return yes;
}

json_t *mcp_server_entry(struct mcp_server *s)
{
	json_t *entry;

	pthread_mutex_lock(&s->lock);
	entry = json_incref(s->entry);
	pthread_mutex_unlock(&s->lock);
	return entry;
}

int mcp_server_call(struct mcp_server *s, const struct mcp_call *call, struct mcp_answer *ret, struct why *why)
{
	struct mcp_process *p = NULL;
	int rc;

	pthread_mutex_lock(&s->lock);
	if (s->ready) {
		p = s->process;
		s->callers++;
	} else {
		const char *reason = json_string_value(json_object_get(s->entry, "reason"));

		why_set(why, ERR_CLOSED, "the MCP server %s is not there now: %s", s->d.name,
		    reason != NULL ? reason : "it is being started");
	}
	pthread_mutex_unlock(&s->lock);
	if (p == NULL)
		return ERR_CLOSED;
	rc = mcp_session_call(mcp_process_session(p), call, ret, why);
	pthread_mutex_lock(&s->lock);
	s->callers--;
	pthread_cond_broadcast(&s->cond);
	pthread_mutex_unlock(&s->lock);
	return rc;
}
