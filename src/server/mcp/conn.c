/* A connection: how a message goes to the server, and what its answers mean. */
#include "server/mcp/conn.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/text.h"
#include "server/mcp/conn_priv.h"
#include <string.h>
#include <strings.h>
#include <time.h>

#define SHORT_MS 10000 /* for what is not waited for */
#define RETRY_MS 1000
#define RETRY_MAX_MS 30000
#define BUSY_TRIES 3

struct mcp_session *conn_session(struct conn *c)
{
	return c->session;
}

bool conn_is_over(const struct conn *c)
{
	return atomic_load(&c->over);
}

bool conn_pause(struct conn *c, const struct mcp_out *out, int64_t ms)
{
	const struct timespec slice = {.tv_nsec = 20 * 1000000L};
	int64_t until = clock_mono_ms() + ms, deadline = 0;

	for (;;) {
		if (atomic_load(&c->closing) ||
		    (out != NULL && out->id != 0 && !mcp_session_waits(c->session, out->id, &deadline)))
			return false;
		if (clock_mono_ms() >= until)
			return true;
		nanosleep(&slice, NULL);
	}
}

/* The scopes that a refusal names, as one plain line. */
static char *scopes_line(const char *scope)
{
	return text_line(scope != NULL ? scope : "", 200);
}

int conn_refusal(struct exchange *x, struct why *why)
{
	struct conn *c = x->conn;
	AUTO_FINI(challenge) ch = {0};
	int status = x->answer.status;
	bool in_session;

	challenge_parse(x->answer.www_authenticate, &ch);
	pthread_mutex_lock(&c->lock);
	in_session = c->session_id != NULL && !mcp_session_is_modern(c->session);
	pthread_mutex_unlock(&c->lock);
	if (status == 401)
		return why_set(why, ERR_UNAUTHORIZED, "it wants authorization");
	if (status == 403 && ch.error != NULL && strcmp(ch.error, "insufficient_scope") == 0) {
		AUTO_STR scopes = scopes_line(ch.scope);

		if (ch.scope != NULL && c->owner.user_id != 0)
			grant_want(c->remotes, &c->owner, c->canonical, scopes);
		return why_set(why, ERR_DENIED,
		    "it wants more rights than it was given%s%s: a person must log in again (agent mcp login)",
		    scopes[0] != '\0' ? ", the scopes " : "", scopes);
	}
	if (status == 404 && in_session) {
		atomic_store(&c->over, true);
		return why_set(why, ERR_LOST, "it has forgotten the session");
	}
	return why_set(why, ERR_NET, "it answered with status %d", status);
}

/* The stream broke before the answer: it goes on from the last event, for as long as somebody waits. */
static int resume(struct exchange *x, struct why *why)
{
	struct conn *c = x->conn;
	int64_t wait = RETRY_MS;

	x->kind = ASK_RESUME;
	for (;;) {
		int64_t deadline;
		int rc;

		if (!conn_pause(c, x->out, x->sse.retry_ms >= 0 ? x->sse.retry_ms : wait))
			return OK; /* the session says why */
		rc = exchange_do(x, why);
		if (x->answered || !mcp_session_waits(c->session, x->out->id, &deadline))
			return OK;
		if (rc == OK && x->answer.status / 100 == 4)
			return why_set(why, ERR_INTERRUPTED, "the connection was lost, the outcome is unknown");
		if (rc == ERR_DENIED || rc == ERR_TOO_LARGE || rc == ERR_INVALID)
			return rc;
		wait = MIN(wait * 2, RETRY_MAX_MS);
	}
}

/* A modern server keeps nothing of a stream that broke. */
static bool is_resumable(const struct exchange *x)
{
	return x->streams && x->last_id != NULL && !mcp_session_is_modern(x->conn->session);
}

/* A request was answered with a success. */
static int take_answer(struct exchange *x, struct why *why)
{
	struct conn *c = x->conn;
	int64_t deadline;

	if (!x->streams && web_is_type(&x->answer, "application/json"))
		IGNORE(mcp_session_receive(c->session, strbuf_str(&x->answer.body), x->answer.body.len, NULL));
	if (x->answered || !mcp_session_waits(c->session, x->out->id, &deadline))
		return OK;
	if (is_resumable(x))
		return resume(x, why);
	return why_set(why, ERR_INTERRUPTED, "the connection ended without an answer, the outcome is unknown");
}

/* Some answer a request with a status and a JSON-RPC error that says more. */
static bool is_answered_anyway(struct exchange *x)
{
	int64_t deadline;

	if (x->out->id == 0 || !web_is_type(&x->answer, "application/json"))
		return false;
	IGNORE(mcp_session_receive(x->conn->session, strbuf_str(&x->answer.body), x->answer.body.len, NULL));
	return !mcp_session_waits(x->conn->session, x->out->id, &deadline);
}

/* A modern server refuses with 400 and 404, and says in the body what it means. */
static bool is_refused_in_words(struct exchange *x)
{
	struct conn *c = x->conn;
	bool initializes = x->out->method != NULL && strcmp(x->out->method, "initialize") == 0;

	if (x->out->id == 0 || (x->answer.status != 400 && x->answer.status != 404) ||
	    !web_is_type(&x->answer, "application/json") || !(initializes || mcp_session_is_modern(c->session)) ||
	    !mcp_session_refuse(c->session, x->out->id, strbuf_str(&x->answer.body), x->answer.body.len))
		return false;
	c->refused_status = initializes ? x->answer.status : 0;
	return true;
}

static bool conn_is_busy(const struct exchange *x)
{
	return (x->answer.status == 429 || x->answer.status == 503) &&
	       (x->out->method == NULL || strcmp(x->out->method, "tools/call") != 0);
}

static int send_streamable(struct conn *c, const struct mcp_out *out, struct why *why)
{
	for (int tries = 1;; tries++) {
		AUTO_FINI(exchange) x;
		int rc;

		exchange_init(&x, c, ASK_MESSAGE, out, c->url);
		if (out->id == 0)
			x.deadline_ms = clock_mono_ms() + SHORT_MS;
		rc = exchange_do(&x, why);
		if (x.answered)
			return OK;
		if (rc != OK) {
			int64_t deadline;

			if (out->id != 0 && !mcp_session_waits(c->session, out->id, &deadline))
				return OK;
			if (out->id != 0 && is_resumable(&x) && rc == ERR_NET)
				return resume(&x, why);
			if (x.sent && rc == ERR_NET)
				return why_set(why, ERR_INTERRUPTED, "the connection was lost, the outcome is unknown");
			return rc;
		}
		if (x.answer.status / 100 == 2)
			return out->id != 0 ? take_answer(&x, why) : OK;
		if (conn_is_busy(&x) && tries < BUSY_TRIES &&
		    conn_pause(c, out, MIN(web_retry_ms(&x.answer, RETRY_MS), RETRY_MAX_MS)))
			continue;
		if (is_refused_in_words(&x))
			return OK;
		if (x.answer.status != 401 && x.answer.status != 403 && x.answer.status != 404 &&
		    is_answered_anyway(&x))
			return OK;
		/* A server of the older transport knows no POST here. */
		if (out->method != NULL && strcmp(out->method, "initialize") == 0 &&
		    (x.answer.status == 400 || x.answer.status == 404 || x.answer.status == 405))
			return why_set(why, ERR_NOT_FOUND, "it answered with status %d", x.answer.status);
		return conn_refusal(&x, why);
	}
}

/* The answer comes on the stream. */
static int send_legacy(struct conn *c, const struct mcp_out *out, struct why *why)
{
	AUTO_FINI(exchange) x;
	int rc;

	exchange_init(&x, c, ASK_MESSAGE, out, c->post_url);
	x.deadline_ms = clock_mono_ms() + SHORT_MS;
	rc = exchange_do(&x, why);
	if (rc != OK)
		return x.sent && rc == ERR_NET ? why_set(why, ERR_INTERRUPTED, "the connection was lost") : rc;
	return x.answer.status / 100 == 2 ? OK : conn_refusal(&x, why);
}

/* At most CALLS_MAX requests at once. */
static bool enter(struct conn *c, const struct mcp_out *out)
{
	bool in = false;

	for (;;) {
		pthread_mutex_lock(&c->lock);
		if (c->calls < CALLS_MAX) {
			c->calls++;
			in = true;
		}
		pthread_mutex_unlock(&c->lock);
		if (in || !conn_pause(c, out, 20))
			return in;
	}
}

static int conn_send(void *ctx, const struct mcp_out *out, struct why *why)
{
	struct conn *c = ctx;
	int rc;

	if (atomic_load(&c->over))
		return why_set(why, ERR_LOST, "the session is over");
	if (out->id != 0 && !enter(c, out))
		return OK; /* nobody waits any more: the session says why */
	rc = c->legacy ? send_legacy(c, out, why) : send_streamable(c, out, why);
	if (out->id != 0) {
		pthread_mutex_lock(&c->lock);
		c->calls--;
		pthread_mutex_unlock(&c->lock);
	}
	return rc;
}

static void conn_changed(void *ctx)
{
	struct conn *c = ctx;

	if (c->changed != NULL)
		c->changed(c->changed_ctx);
}

static void conn_log(void *ctx, const char *level, const char *text)
{
	struct conn *c = ctx;

	log_debug("mcp.server", "name=%s level=%s text=%s", log_quote(c->name), level, log_quote(text));
}

static char **read_headers(const json_t *definition)
{
	const json_t *headers = json_object_get(definition, "headers");
	char **list = mem_zalloc((json_object_size(headers) + 1) * sizeof *list);
	const char *name;
	size_t n = 0;
	json_t *v;

	json_object_foreach((json_t *)headers, name, v) if (json_is_string(v)) list[n++] =
	    str_printf("%s: %s", name, json_string_value(v));
	return list;
}

static bool has_authorization(char **headers)
{
	for (; *headers != NULL; headers++)
		if (strncasecmp(*headers, "authorization:", 14) == 0)
			return true;
	return false;
}

static struct conn *conn_new(const struct conn_spec *spec)
{
	struct conn *c = NEW(struct conn);
	pthread_condattr_t attr;

	c->remotes = spec->remotes;
	c->owner = *spec->owner;
	c->name = str_dup(json_string_value(json_object_get(spec->definition, "name")));
	c->url = str_dup(json_string_value(json_object_get(spec->definition, "url")));
	c->canonical = web_canonical(c->url);
	c->headers = read_headers(spec->definition);
	c->authorizes = json_object_get(spec->definition, "auth") != NULL || !has_authorization(c->headers);
	if (!mcp_protocol_read(json_string_value(json_object_get(spec->definition, "protocol")), &c->protocol))
		c->protocol = MCP_AUTO;
	c->changed = spec->changed;
	c->changed_ctx = spec->ctx;
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&c->cond, &attr);
	pthread_condattr_destroy(&attr);
	return c;
}

/* What is the same for the same server, whoever asks it. Wipe it. */
static char *definition_text(const json_t *definition)
{
	return json_dumps(definition, JSON_COMPACT | JSON_SORT_KEYS);
}

static void begin_session(struct conn *c, enum mcp_protocol protocol)
{
	const struct mcp_transport t = {
	    .send = conn_send, .tools_changed = conn_changed, .log = conn_log, .is_http = true, .ctx = c};

	mcp_session_free(&c->session);
	c->session = mcp_session_new(&t, &MCP_TIMES_REMOTE);
	mcp_session_prefer(c->session, protocol, c->was_modern);
	c->refused_status = 0;
}

/* DELETE, so that the server need not keep what nobody uses; its answer does not matter. */
static void tell_end(struct conn *c)
{
	AUTO_STR id = c->session_id != NULL ? str_printf("MCP-Session-Id: %s", c->session_id) : NULL;
	AUTO_STR version = str_printf("MCP-Protocol-Version: %s", mcp_session_version(c->session));
	AUTO_FINI(web_answer) a = {0};
	const char *headers[70] = {id, version};
	char *token = NULL, *bearer = NULL;
	int64_t token_version;
	size_t n = 2;

	if (id == NULL || c->legacy || mcp_session_is_modern(c->session) || atomic_load(&c->over))
		return;
	if (c->authorizes && c->owner.user_id != 0 &&
	    grant_token(c->remotes, &c->owner, c->canonical, 0, &token, &token_version, NULL) == OK)
		headers[n++] = bearer = str_printf("Authorization: Bearer %s", token);
	for (char **h = c->headers; *h != NULL && n < ARRAY_LEN(headers) - 1; h++)
		if (bearer == NULL || strncasecmp(*h, "authorization:", 14) != 0)
			headers[n++] = *h;
	const struct web_request req = {
	    .method = "DELETE", .url = c->url, .headers = headers, .timeout_ms = 5000, .max_body = 65536};

	IGNORE(web_ask(c->remotes->rules, &req, &a, NULL));
	str_wipe(&token);
	str_wipe(&bearer);
}

void conn_free(struct conn **conn)
{
	struct conn *c = *conn;

	if (c == NULL)
		return;
	*conn = NULL;
	atomic_store(&c->closing, true);
	if (c->session != NULL)
		mcp_session_close(c->session, "the connection was closed");
	pthread_mutex_lock(&c->lock);
	while (c->listeners > 0)
		pthread_cond_wait(&c->cond, &c->lock);
	pthread_mutex_unlock(&c->lock);
	if (c->session != NULL)
		tell_end(c);
	mcp_session_free(&c->session);
	for (size_t i = 0; i < c->n_idle; i++)
		curl_easy_cleanup(c->idle[i]);
	for (char **h = c->headers; *h != NULL; h++)
		str_wipe(h);
	free(c->headers);
	free(c->name);
	free(c->url);
	free(c->canonical);
	free(c->session_id);
	free(c->post_url);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->cond);
	free(c);
}

/* The other transport is tried: nobody listens for the first one any more. */
static void end_attempt(struct conn *c)
{
	atomic_store(&c->closing, true);
	pthread_mutex_lock(&c->lock);
	while (c->listeners > 0)
		pthread_cond_wait(&c->cond, &c->lock);
	c->refused[0] = '\0';
	str_free(&c->post_url);
	str_free(&c->session_id);
	pthread_mutex_unlock(&c->lock);
	atomic_store(&c->closing, false);
	atomic_store(&c->over, false);
}

static int try_streamable(struct conn *c, const atomic_bool *stop, struct why *why)
{
	int rc;

	begin_session(c, c->protocol);
	c->legacy = false;
	rc = mcp_session_initialize(c->session, stop, why);
	/* A server of the older transport may refuse in the same words. */
	return rc == ERR_PROTOCOL && c->refused_status != 0 ? ERR_NOT_FOUND : rc;
}

/* ERR_NOT_FOUND: it does not speak this. */
static int try_legacy(struct conn *c, const atomic_bool *stop, struct why *why)
{
	int rc;

	begin_session(c, MCP_LEGACY);
	c->legacy = true;
	rc = listen_legacy(c, stop, why);
	return rc != OK ? rc : mcp_session_initialize(c->session, stop, why);
}

int conn_open(const struct conn_spec *spec, const atomic_bool *stop, struct conn **ret, struct why *why)
{
	struct conn *c = conn_new(spec);
	const char *type = json_string_value(json_object_get(spec->definition, "type"));
	struct why other = {0};
	char *text = definition_text(spec->definition);
	bool legacy_first = type != NULL && strcmp(type, "sse") == 0;
	int rc = web_check_url(c->remotes->rules, c->url, why), second;

	c->was_modern = mcp_eras_is_modern(&c->remotes->eras, text);
	if (rc == OK)
		rc = legacy_first ? try_legacy(c, stop, why) : try_streamable(c, stop, why);
	/* Many call a server by the name of the other transport. What the first attempt said is told if neither works.
	 */
	if (rc == ERR_NOT_FOUND && c->protocol != MCP_MODERN) {
		end_attempt(c);
		second = legacy_first ? try_streamable(c, stop, &other) : try_legacy(c, stop, &other);
		if (second != ERR_NOT_FOUND) {
			rc = second;
			*why = other;
		}
	}
	if (rc == ERR_NOT_FOUND)
		rc = ERR_NET;
	if (rc == OK)
		mcp_eras_note(&c->remotes->eras, text, mcp_session_is_modern(c->session));
	str_wipe(&text);
	if (rc == OK && !c->legacy && mcp_session_tells_changes(c->session))
		rc = listen_general(c);
	if (rc == OK)
		*ret = c;
	else
		conn_free(&c);
	return rc;
}
