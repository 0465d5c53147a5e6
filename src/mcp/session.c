#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/headers.h"
#include "mcp/session_priv.h"
#include "mcp/tools.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>

#define MAGIC 0x6d63707365737301ULL
#define STOP_LOOK_MS 50 /* how late a stop flag is seen: nobody wakes the waiting thread for it */
#define PAGES_MAX 50

struct mcp_session *mcp_session_new(const struct mcp_transport *t, const struct mcp_times *times)
{
	struct mcp_session *s = NEW(struct mcp_session);

	s->magic = MAGIC;
	s->t = *t;
	s->times = *times;
	s->list_ttl_ms = -1;
	pthread_mutex_init(&s->lock, NULL);
	return s;
}

void mcp_session_free(struct mcp_session **sp)
{
	struct mcp_session *s = *sp;

	if (s == NULL)
		return;
	OBJ_CHECK(s, MAGIC);
	ENSURE(s->waiting == NULL);
	pthread_mutex_destroy(&s->lock);
	free(s->instructions);
	s->magic = 0;
	free(s);
	*sp = NULL;
}

const char *mcp_session_version(const struct mcp_session *s)
{
	return s->version;
}

const char *mcp_session_instructions(const struct mcp_session *s)
{
	return s->instructions != NULL ? s->instructions : "";
}

bool mcp_session_is_modern(const struct mcp_session *s)
{
	return atomic_load(&s->modern);
}

int64_t mcp_session_list_ttl_ms(const struct mcp_session *s)
{
	return s->list_ttl_ms;
}

bool mcp_session_tells_changes(const struct mcp_session *s)
{
	return s->changes;
}

void mcp_log(struct mcp_session *s, const char *level, const char *fmt, ...)
{
	va_list ap;

	if (s->t.log == NULL)
		return;
	va_start(ap, fmt);
	AUTO_STR text = str_vprintf(fmt, ap);
	va_end(ap);
	AUTO_STR line = text_line(text, LOG_LINE_MAX);
	s->t.log(s->t.ctx, level, line);
}

int mcp_send(struct mcp_session *s, json_t *j, const struct mcp_out *about, struct why *why)
{
	AUTO_JSON msg = j;
	AUTO_STR text = NULL;
	struct mcp_out out = *about;

	json_put(msg, "jsonrpc", "2.0");
	text = json_text(msg);
	out.text = text;
	out.len = strlen(text);
	if (out.len > MCP_MESSAGE_MAX)
		return why_set(why, ERR_TOO_LARGE, "a message to an MCP server has at most 16 MiB");
	return s->t.send(s->t.ctx, &out, why);
}

void mcp_notify(struct mcp_session *s, const char *method, json_t *params)
{
	json_t *msg = json_object();

	json_put(msg, "method", method);
	if (params != NULL)
		json_put_new(msg, "params", params);
	IGNORE(mcp_send(s, msg, &(struct mcp_out){.method = method, .deadline_mono_ms = clock_mono_ms() + 1000}, NULL));
}

struct waiting *mcp_waiting_find(struct mcp_session *s, int64_t id)
{
	struct waiting *w = s->waiting;

	ENSURE_LOCKED(&s->lock);
	while (w != NULL && w->id != id)
		w = w->next;
	return w;
}

void mcp_waiting_end(struct waiting *w, int rc, const char *sentence)
{
	if (w->done)
		return;
	w->done = true;
	w->rc = rc;
	snprintf(w->sentence, sizeof(w->sentence), "%s", sentence);
	text_utf8_mend(w->sentence);
	pthread_cond_signal(&w->cond);
}

static int waiting_begin(struct mcp_session *s, struct waiting *w, struct why *why)
{
	pthread_condattr_t attr;
	size_t n = 0;
	int rc = OK;

	pthread_mutex_lock(&s->lock);
	for (struct waiting *o = s->waiting; o != NULL; o = o->next)
		n++;
	if (s->closed)
		rc = why_set(why, ERR_CLOSED, "%s", s->closed_why);
	else if (n >= MCP_WAITING_MAX)
		rc = why_set(why, ERR_FULL, "%d requests wait for this MCP server already", MCP_WAITING_MAX);
	if (rc == OK) {
		pthread_condattr_init(&attr);
		pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
		pthread_cond_init(&w->cond, &attr);
		pthread_condattr_destroy(&attr);
		w->id = ++s->last_id;
		w->next = s->waiting;
		s->waiting = w;
	}
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void waiting_finish(struct mcp_session *s, struct waiting *w)
{
	struct waiting **at = &s->waiting;

	pthread_mutex_lock(&s->lock);
	while (*at != w)
		at = &(*at)->next;
	*at = w->next;
	pthread_mutex_unlock(&s->lock);
	pthread_cond_destroy(&w->cond);
	free(w->message);
}

/* With the lock held, which is given back meanwhile. */
static void tell_progress(struct mcp_session *s, struct waiting *w)
{
	AUTO_STR message = TAKE(w->message);
	double at = w->at, total = w->total;

	w->progressed = false;
	if (w->call == NULL || w->call->progress == NULL)
		return;
	pthread_mutex_unlock(&s->lock);
	w->call->progress(w->call->ctx, at, total, message);
	pthread_mutex_lock(&s->lock);
}

static int stop_fd(const struct waiting *w)
{
	return w->call != NULL ? w->call->stop_fd : 0;
}

static bool is_stopped(const struct waiting *w)
{
	struct pollfd p = {stop_fd(w), POLLIN, 0};

	if (w->stop != NULL && atomic_load(w->stop))
		return true;
	return p.fd > 0 && poll(&p, 1, 0) > 0;
}

bool mcp_session_waits(struct mcp_session *s, int64_t id, int64_t *ret_deadline_mono_ms)
{
	struct waiting *w;
	bool yes = false;

	pthread_mutex_lock(&s->lock);
	w = mcp_waiting_find(s, id);
	if (w != NULL && w->progressed)
		tell_progress(s, w);
	if (w != NULL) {
		yes = !w->done && clock_mono_ms() < w->deadline && !is_stopped(w);
		*ret_deadline_mono_ms = w->deadline;
	}
	pthread_mutex_unlock(&s->lock);
	return yes;
}

/* Until it is done, its time is over, or the stop flag is set. */
static int waiting_wait(struct mcp_session *s, struct waiting *w, const char *what, struct why *why)
{
	int rc = OK;

	pthread_mutex_lock(&s->lock);
	while (!w->done && rc == OK) {
		int64_t now = clock_mono_ms(), until = w->deadline;
		struct timespec ts;

		if (is_stopped(w)) {
			rc = why_set(why, ERR_CANCELLED, "%s was cancelled", what);
		} else if (now >= w->deadline) {
			rc = why_set(why, ERR_TIMEOUT, "the MCP server did not answer %s in time", what);
		} else if (w->progressed) {
			tell_progress(s, w);
		} else {
			if (w->stop != NULL || stop_fd(w) > 0)
				until = MIN(until, now + STOP_LOOK_MS);
			ts = (struct timespec){.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
			pthread_cond_timedwait(&w->cond, &s->lock, &ts);
		}
	}
	if (rc == OK && w->progressed)
		tell_progress(s, w);
	if (rc == OK && w->rc != OK)
		rc = why_set(why, w->rc, "%s", w->sentence);
	w->done = true; /* what comes now is too late */
	pthread_mutex_unlock(&s->lock);
	return rc;
}

static void tell_cancelled(struct mcp_session *s, int64_t id, const char *reason)
{
	json_t *params = json_object();

	json_put_int(params, "requestId", id);
	json_put(params, "reason", reason);
	mcp_notify(s, "notifications/cancelled", params);
}

/* Asks and waits. Takes params; *ret gets the result or the error. `w` has its times, call and stop. */
static int ask(struct mcp_session *s, const char *method, json_t *params, const json_t *headers, struct waiting *w,
    struct mcp_answer *ret, struct why *why)
{
	bool modern = mcp_session_is_modern(s), tells = strcmp(method, "initialize") != 0 && !(modern && s->t.is_http);
	AUTO_JSON msg = json_object();
	AUTO_STR what = str_printf("'%s'", w->call != NULL ? w->call->tool : method);
	int rc;

	json_put(msg, "method", method);
	json_put_new(msg, "params", params);
	rc = waiting_begin(s, w, why);
	if (rc != OK)
		return rc;
	json_put_int(msg, "id", w->id);
	if (w->call != NULL)
		json_put_new(params, "_meta", json_pack("{s:I}", "progressToken", (json_int_t)w->id));
	if (modern)
		mcp_put_meta(s, params);
	rc = mcp_send(s, TAKE(msg),
	    &(struct mcp_out){.method = method,
		.tool = w->call != NULL ? w->call->tool : NULL,
		.params_headers = headers,
		.id = w->id,
		.deadline_mono_ms = w->deadline,
		.stop = w->stop},
	    why);
	if (rc == OK) {
		rc = waiting_wait(s, w, what, why);
		if ((rc == ERR_TIMEOUT || rc == ERR_CANCELLED) && tells)
			tell_cancelled(s, w->id, rc == ERR_TIMEOUT ? "timeout" : "cancelled");
	}
	waiting_finish(s, w);
	if (rc == OK)
		*ret = (struct mcp_answer){.result = TAKE(w->result), .error = TAKE(w->error)};
	json_drop(&w->result);
	json_drop(&w->error);
	return rc;
}

void mcp_answer_fini(struct mcp_answer *a)
{
	json_drop(&a->result);
	json_drop(&a->error);
}

static struct waiting waiting_for(int64_t ms, const atomic_bool *stop)
{
	int64_t until = clock_mono_ms() + ms;

	return (struct waiting){.deadline = until, .cap = until, .stop = stop};
}

int mcp_ask(struct mcp_session *s, const char *method, json_t *params, int64_t ms, const atomic_bool *stop,
    json_t **ret, int64_t *ret_code, struct why *why)
{
	struct waiting w = waiting_for(ms, stop);
	struct mcp_answer a = {0};
	bool more = false;
	int rc = ask(s, method, params, NULL, &w, &a, why);

	if (rc == OK && a.error == NULL)
		rc = mcp_needs_input(s, a.result, &more, why);
	if (rc == OK && more)
		rc = why_set(why, ERR_PROTOCOL, "the MCP server wants input for %s, which has none", method);
	if (rc == OK && a.error != NULL) {
		AUTO_STR said = text_line(json_string_value(json_object_get(a.error, "message")), 200);
		*ret_code = json_integer_value(json_object_get(a.error, "code"));
		rc = why_set(
		    why, ERR_PROTOCOL, "the MCP server refused %s: %s (%lld)", method, said, (long long)*ret_code);
		*ret = TAKE(a.error);
	} else if (rc == OK) {
		*ret = TAKE(a.result);
	}
	mcp_answer_fini(&a);
	return rc;
}

/* One page into the collector; *cursor is the next one's, NULL at the end. */
static int list_page(struct mcp_session *s, const atomic_bool *stop, struct mcp_tools *into, char **cursor,
    int64_t *ret_code, struct why *why)
{
	AUTO_JSON page = NULL;
	json_t *params = json_object(), *ttl;
	const char *next;
	int rc;

	json_put(params, "cursor", *cursor);
	rc = mcp_ask(s, "tools/list", params, s->times.list, stop, &page, ret_code, why);
	if (rc != OK)
		return rc;
	if (!json_is_array(json_object_get(page, "tools")))
		return why_set(why, ERR_PROTOCOL, "the MCP server answered tools/list without an array 'tools'");
	mcp_tools_add(into, json_object_get(page, "tools"));
	ttl = json_object_get(page, "ttlMs");
	if (mcp_session_is_modern(s) && json_is_integer(ttl) && json_integer_value(ttl) >= 0)
		s->list_ttl_ms = s->list_ttl_ms < 0 ? json_integer_value(ttl)
						    : MIN(s->list_ttl_ms, (int64_t)json_integer_value(ttl));
	next = json_string_value(json_object_get(page, "nextCursor"));
	if (next != NULL && *cursor != NULL && strcmp(next, *cursor) == 0) {
		mcp_tools_warn(into, "the list of tools was cut: its pages repeat");
		next = NULL;
	}
	str_set(cursor, next);
	return OK;
}

static struct mcp_tools tools_begin(const struct mcp_session *s)
{
	struct mcp_tools t = mcp_tools_begin();

	t.by_http = mcp_session_is_modern(s) && s->t.is_http;
	return t;
}

int mcp_session_list(
    struct mcp_session *s, const atomic_bool *stop, json_t **ret_tools, json_t **ret_warnings, struct why *why)
{
	struct mcp_tools all = tools_begin(s);
	AUTO_STR cursor = NULL;
	bool again = false;
	int rc = OK, pages = 0;

	s->list_ttl_ms = -1;
	while (s->tools && rc == OK && (pages == 0 || cursor != NULL)) {
		int64_t code = 0;

		if (pages == PAGES_MAX) {
			mcp_tools_warn(&all, "the list of tools was cut: it has more than 50 pages");
			break;
		}
		rc = list_page(s, stop, &all, &cursor, &code, why);
		pages++;
		if (rc == ERR_PROTOCOL && code == -32602 && cursor != NULL && !again) {
			/* The cursor is not good any more: once more from the beginning. */
			again = true;
			mcp_tools_fini(&all);
			all = tools_begin(s);
			str_set(&cursor, NULL);
			pages = 0;
			rc = OK;
		}
	}
	if (rc == OK)
		mcp_tools_end(&all, ret_tools, ret_warnings);
	mcp_tools_fini(&all);
	return rc;
}

/* `more`: what the answer to the same call before this one wants besides; NULL: nothing. */
static int call_once(struct mcp_session *s, const struct mcp_call *call, json_t *more, const json_t *headers,
    int64_t cap, struct mcp_answer *ret, struct why *why)
{
	json_t *params = json_object();
	struct waiting w = {.call = call, .stop = call->stop, .idle_ms = s->times.call, .at = -1, .cap = cap};

	w.deadline = MIN(w.cap, clock_mono_ms() + w.idle_ms);
	json_put(params, "name", call->tool);
	json_object_set(params, "arguments", (json_t *)call->arguments);
	json_object_update(params, more);
	return ask(s, "tools/call", params, headers, &w, ret, why);
}

int mcp_session_call(struct mcp_session *s, const struct mcp_call *call, struct mcp_answer *ret, struct why *why)
{
	int64_t cap = clock_mono_ms() + s->times.call_cap;
	AUTO_JSON more = NULL;
	AUTO_JSON headers = NULL;
	bool wants = false;
	int rc = OK;

	if (call->deadline_mono_ms > 0)
		cap = MIN(cap, call->deadline_mono_ms);
	if (mcp_session_is_modern(s) && s->t.is_http && call->schema != NULL)
		rc = mcp_param_headers(call->schema, call->arguments, &headers, why);
	for (int i = 0; i < 2 && rc == OK; i++) {
		rc = call_once(s, call, more, headers, cap, ret, why);
		if (rc == OK && ret->error == NULL)
			rc = mcp_needs_input(s, ret->result, &wants, why);
		if (rc != OK || !wants || ret->error != NULL)
			break;
		json_drop(&more);
		rc = i == 0 ? mcp_decline(ret->result, &more, why)
			    : why_set(why, ERR_PROTOCOL, "'%s' asks a person again, who is not there", call->tool);
		mcp_answer_fini(ret);
	}
	if (rc != OK)
		mcp_answer_fini(ret);
	/* Headers that do not fit the body: the schema that says which they are may be another one by now. */
	else if (headers != NULL && json_integer_value(json_object_get(ret->error, "code")) == -32020 &&
		 s->t.tools_changed != NULL)
		s->t.tools_changed(s->t.ctx);
	return rc;
}

int mcp_session_ping(struct mcp_session *s, const atomic_bool *stop, struct why *why)
{
	AUTO_JSON r = NULL;
	int64_t code = 0;
	int rc = OK;

	if (!mcp_session_is_modern(s))
		rc = mcp_ask(s, "ping", json_object(), s->times.ping, stop, &r, &code, why);
	return rc == ERR_PROTOCOL ? OK : rc; /* an error is an answer, too */
}

void mcp_session_roots_changed(struct mcp_session *s)
{
	if (!mcp_session_is_modern(s))
		mcp_notify(s, "notifications/roots/list_changed", NULL);
}

void mcp_session_close(struct mcp_session *s, const char *sentence)
{
	pthread_mutex_lock(&s->lock);
	if (!s->closed) {
		s->closed = true;
		snprintf(s->closed_why, sizeof(s->closed_why), "%s", sentence);
		text_utf8_mend(s->closed_why);
	}
	for (struct waiting *w = s->waiting; w != NULL; w = w->next)
		mcp_waiting_end(w, ERR_CLOSED, sentence);
	pthread_mutex_unlock(&s->lock);
}
