/* The servers that agents use: one connection a server, agent and owner, kept while it is used. */
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "mcp/result.h"
#include "mcp/tools.h"
#include "server/mcp/conn.h"
#include <string.h>

#define OPENERS 32
#define OPENERS_WAITING 10000
#define IDLE_MS (10 * 60 * 1000)
#define SWEEP_MS 30000
#define FRESH_MS 60000 /* a list is good for so long, whatever its server says */
#define AGAIN_MS 60000 /* a server that failed is tried again after that */
#define AUTH_AGAIN_MS 5000 /* one that lacks authorization: a person may have given it */

enum remote_state { REMOTE_NEW, REMOTE_BUSY, REMOTE_READY, REMOTE_FAILED, REMOTE_AUTH };

/* Fields but the constant ones are under the room's lock. */
struct remote {
	struct remote *next;
	struct remotes *room;
	/* Constant. */
	char key[SHA256_HEX_LEN];
	struct kept_owner owner;
	json_t *definition;

	unsigned refs; /* who uses it now; 0: the sweep may end it */
	enum remote_state state;
	struct conn *conn; /* NULL: not connected. Replaced only by its opener, while `users` is 0 */
	unsigned users; /* calls inside the connection */
	json_t *listed; /* as last listed; NULL: never */
	bool changed; /* the server's tools have */
	int64_t used_ms, failed_ms;
	int64_t stale_ms; /* when the list is to be asked for again; 0: when the server says that it changed */
};

static void remote_key(const struct remote_who *who, const json_t *definition, char ret[SHA256_HEX_LEN])
{
	char *text = json_dumps(definition, JSON_COMPACT | JSON_SORT_KEYS);
	char *all = str_printf(
	    "%lld/%lld/%s/%s", (long long)who->owner.team_id, (long long)who->owner.user_id, who->agent_id, text);

	sha256_hex(all, strlen(all), ret);
	str_wipe(&text);
	str_wipe(&all);
}

static void remote_free(struct remote *m)
{
	conn_free(&m->conn);
	json_drop(&m->definition);
	json_drop(&m->listed);
	free(m);
}

/* With a reference more. */
static struct remote *remote_take(struct remotes *r, const struct remote_who *who, const json_t *definition)
{
	char key[SHA256_HEX_LEN];
	struct remote *m;

	remote_key(who, definition, key);
	pthread_mutex_lock(&r->lock);
	for (m = r->all; m != NULL && strcmp(m->key, key) != 0; m = m->next)
		;
	if (m == NULL) {
		m = NEW(struct remote);
		memcpy(m->key, key, sizeof key);
		m->room = r;
		m->owner = who->owner;
		m->definition = json_deep_copy(definition);
		m->next = r->all;
		r->all = m;
	}
	m->refs++;
	m->used_ms = clock_mono_ms();
	pthread_mutex_unlock(&r->lock);
	return m;
}

static void remote_give(struct remote *m)
{
	struct remotes *r = m->room;

	pthread_mutex_lock(&r->lock);
	m->refs--;
	m->used_ms = clock_mono_ms();
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

static void remote_changed(void *ctx)
{
	struct remote *m = ctx;

	pthread_mutex_lock(&m->room->lock);
	m->changed = true;
	pthread_mutex_unlock(&m->room->lock);
}

static const char *name_of(const json_t *definition)
{
	const char *s = json_string_value(json_object_get(definition, "name"));

	return s != NULL ? s : "";
}

/* Lists over a connection. */
static int list_tools(struct remote *m, struct conn *c, json_t **ret, struct why *why)
{
	struct mcp_session *s = conn_session(c);
	AUTO_JSON tools = NULL;
	AUTO_JSON warnings = NULL;
	int rc = mcp_session_list(s, &m->room->stop, &tools, &warnings, why);
	int64_t ttl = mcp_session_list_ttl_ms(s), now = clock_mono_ms();

	pthread_mutex_lock(&m->room->lock);
	m->stale_ms = ttl < 0 || ttl > INT64_MAX - now || mcp_session_tells_changes(s) ? 0 : now + MAX(ttl, FRESH_MS);
	pthread_mutex_unlock(&m->room->lock);
	if (rc == OK)
		*ret =
		    mcp_entry_new(name_of(m->definition), "ready", NULL, mcp_session_instructions(s), tools, warnings);
	return rc;
}

/* Takes the old connection away, when no call is inside; none begins, for the state is REMOTE_BUSY. */
static void drop_conn(struct remote *m)
{
	struct conn *c;

	pthread_mutex_lock(&m->room->lock);
	while (m->users > 0)
		pthread_cond_wait(&m->room->cond, &m->room->lock);
	c = TAKE(m->conn);
	pthread_mutex_unlock(&m->room->lock);
	conn_free(&c);
}

/* Connects anew if need be, and lists. */
static int remote_open(struct remote *m, json_t **ret, struct why *why)
{
	const struct conn_spec spec = {
	    .remotes = m->room, .owner = &m->owner, .definition = m->definition, .changed = remote_changed, .ctx = m};
	struct conn *c = m->conn; /* only this thread changes it now */
	int rc;

	if (c != NULL && !conn_is_over(c)) {
		rc = list_tools(m, c, ret, why);
		if (rc == OK)
			return OK;
	}
	drop_conn(m);
	c = NULL;
	rc = conn_open(&spec, &m->room->stop, &c, why);
	if (rc == OK)
		rc = list_tools(m, c, ret, why);
	pthread_mutex_lock(&m->room->lock);
	m->conn = c;
	pthread_mutex_unlock(&m->room->lock);
	return rc;
}

/* A job of the openers; it has a reference. */
static void remote_open_job(void *arg)
{
	struct remote *m = arg;
	struct why why = {0};
	json_t *listed = NULL;
	int rc = remote_open(m, &listed, &why);

	if (rc == ERR_UNAUTHORIZED) {
		AUTO_STR reason = str_printf("it wants authorization: %s",
		    m->owner.user_id != 0 ? "log in with `agent mcp login` (a server of the request: keep one "
					    "with the same URL first)"
					  : "a service account cannot use a person's, give it headers");

		listed = mcp_entry_new(name_of(m->definition), "auth_required", reason, NULL, NULL, NULL);
	} else if (rc != OK) {
		listed = mcp_entry_new(
		    name_of(m->definition), "failed", why.text[0] != '\0' ? why.text : err_text(rc), NULL, NULL, NULL);
	}
	log_info("mcp.remote", "server=%s state=%s reason=%s", log_quote(name_of(m->definition)),
	    json_string_value(json_object_get(listed, "state")), log_quote(rc != OK ? why.text : ""));
	pthread_mutex_lock(&m->room->lock);
	json_decref(m->listed);
	m->listed = listed;
	m->state = rc == OK ? REMOTE_READY : rc == ERR_UNAUTHORIZED ? REMOTE_AUTH : REMOTE_FAILED;
	m->failed_ms = clock_mono_ms();
	pthread_mutex_unlock(&m->room->lock);
	remote_give(m);
}

/* With the lock held: whether it is to be connected or listed now. */
static bool is_due(const struct remote *m, bool at_once)
{
	int64_t ago = clock_mono_ms() - m->failed_ms;

	switch (m->state) {
	case REMOTE_NEW:
		return true;
	case REMOTE_BUSY:
		return false;
	case REMOTE_READY:
		return m->changed || m->conn == NULL || conn_is_over(m->conn) ||
		       (m->stale_ms != 0 && clock_mono_ms() >= m->stale_ms);
	case REMOTE_FAILED:
		return at_once || ago >= AGAIN_MS;
	case REMOTE_AUTH:
		return at_once || ago >= AUTH_AGAIN_MS;
	}
	return false;
}

static void remote_begin(struct remote *m, bool at_once)
{
	struct remotes *r = m->room;
	bool due;

	pthread_mutex_lock(&r->lock);
	due = is_due(m, at_once) && !r->closing;
	if (due) {
		m->state = REMOTE_BUSY;
		m->changed = false;
		m->refs++;
	}
	pthread_mutex_unlock(&r->lock);
	if (!due || pool_submit(r->openers, remote_open_job, m) == OK)
		return;
	pthread_mutex_lock(&r->lock);
	m->state = REMOTE_FAILED;
	m->failed_ms = clock_mono_ms();
	json_decref(m->listed);
	m->listed =
	    mcp_entry_new(name_of(m->definition), "failed", "too many servers are being connected", NULL, NULL, NULL);
	pthread_mutex_unlock(&r->lock);
	remote_give(m);
}

/* Until none of them is being opened. */
static void await_all(struct remotes *r, struct remote **all, size_t n, int64_t wait_ms, const atomic_bool *stop)
{
	int64_t until = clock_mono_ms() + wait_ms;

	pthread_mutex_lock(&r->lock);
	for (;;) {
		int64_t now = clock_mono_ms(), slice = MIN(until, now + 100);
		struct timespec ts = {.tv_sec = slice / 1000, .tv_nsec = slice % 1000 * 1000000};
		bool busy = false;

		for (size_t i = 0; i < n; i++)
			busy = busy || all[i]->state == REMOTE_BUSY;
		if (!busy || now >= until || (stop != NULL && atomic_load(stop)))
			break;
		pthread_cond_timedwait(&r->cond, &r->lock, &ts);
	}
	pthread_mutex_unlock(&r->lock);
}

static json_t *as_listed(struct remote *m)
{
	json_t *o;

	pthread_mutex_lock(&m->room->lock);
	/* While it is listed anew, what was there before holds. */
	o = m->listed != NULL && (m->state != REMOTE_BUSY || m->conn != NULL) ? json_incref(m->listed) : NULL;
	pthread_mutex_unlock(&m->room->lock);
	return o != NULL ? o : mcp_entry_new(name_of(m->definition), "starting", NULL, NULL, NULL, NULL);
}

json_t *remote_list(struct remotes *r, const struct remote_who *who, const json_t *definitions, int64_t wait_ms,
    const atomic_bool *stop)
{
	size_t n = json_array_size(definitions), i;
	struct remote **all = mem_zalloc((n + 1) * sizeof(struct remote *));
	json_t *list = json_array(), *d;

	json_array_foreach((json_t *)definitions, i, d)
	{
		all[i] = remote_take(r, who, d);
		remote_begin(all[i], false);
	}
	await_all(r, all, n, wait_ms, stop);
	for (i = 0; i < n; i++) {
		json_array_append_new(list, as_listed(all[i]));
		remote_give(all[i]);
	}
	free(all);
	return list;
}

static const json_t *definition_named(const json_t *definitions, const char *name)
{
	size_t i;
	json_t *d;

	json_array_foreach((json_t *)definitions, i, d) if (strcmp(name_of(d), name) == 0) return d;
	return NULL;
}

/* The tool as it was listed; a new reference, NULL: it is not there. *ret_listed: the server has told its tools. */
static json_t *tool_of(struct remote *m, const char *name, bool *ret_listed)
{
	json_t *found = NULL, *t;
	size_t i;

	pthread_mutex_lock(&m->room->lock);
	*ret_listed = m->state == REMOTE_READY;
	json_array_foreach(json_object_get(m->listed, "tools"), i, t)
	{
		const char *s = json_string_value(json_object_get(t, "name"));

		if (found == NULL && s != NULL && strcmp(s, name) == 0)
			found = json_incref(t);
	}
	pthread_mutex_unlock(&m->room->lock);
	return found;
}

/* A connection to call over, for the time until remote_leave. */
static struct conn *remote_enter(struct remote *m)
{
	struct conn *c = NULL;

	pthread_mutex_lock(&m->room->lock);
	if (m->state == REMOTE_READY && m->conn != NULL && !conn_is_over(m->conn)) {
		c = m->conn;
		m->users++;
	}
	pthread_mutex_unlock(&m->room->lock);
	return c;
}

static void remote_leave(struct remote *m)
{
	pthread_mutex_lock(&m->room->lock);
	m->users--;
	pthread_cond_broadcast(&m->room->cond);
	pthread_mutex_unlock(&m->room->lock);
}

/* Not connected. */
static int explain_state(struct remote *m, const char **ret_code, struct why *why)
{
	AUTO_JSON listed = as_listed(m);
	const char *state = json_string_value(json_object_get(listed, "state"));
	const char *reason = json_string_value(json_object_get(listed, "reason"));
	bool auth = strcmp(state, "auth_required") == 0;

	*ret_code = auth ? "mcp_auth_required" : "mcp_unavailable";
	return why_set(why, auth ? ERR_UNAUTHORIZED : ERR_NET, "the MCP server %s is not available: %s",
	    name_of(m->definition), reason != NULL ? reason : state);
}

static int perform_once(struct remote *m, const struct remote_call *call, struct mcp_outcome *ret, bool *ret_lost,
    const char **ret_code, struct why *why)
{
	bool listed;
	AUTO_JSON tool = tool_of(m, call->tool, &listed);
	struct mcp_answer a = {0};
	struct conn *c;
	int rc;

	*ret_lost = false;
	if (tool == NULL && listed) {
		*ret_code = "unknown_tool";
		return why_set(why, ERR_NOT_FOUND, "the MCP server %s has no tool of that name (any more)",
		    name_of(m->definition));
	}
	if (tool != NULL && mcp_arguments_check(json_object_get(tool, "inputSchema"), call->arguments, why) != OK) {
		*ret_code = "invalid_arguments";
		return ERR_INVALID;
	}
	c = remote_enter(m);
	if (c == NULL)
		return explain_state(m, ret_code, why);
	rc = mcp_session_call(conn_session(c),
	    &(struct mcp_call){.tool = call->tool,
		.arguments = call->arguments,
		.schema = json_object_get(tool, "inputSchema"),
		.stop = call->stop,
		.deadline_mono_ms = call->deadline_mono_ms,
		.progress = call->progress,
		.ctx = call->ctx},
	    &a, why);
	remote_leave(m);
	if (rc == OK && a.error != NULL) {
		*ret = (struct mcp_outcome){
		    .result = json_pack("{s:O}", "error", a.error), .text = mcp_error_text(a.error), .failed = true};
	} else if (rc == OK) {
		mcp_outcome_from(a.result, tool, call->image_max, NULL, ret);
	}
	mcp_answer_fini(&a);
	*ret_lost = rc == ERR_LOST;
	*ret_code = rc == ERR_UNAUTHORIZED			? "mcp_auth_required"
		    : rc == ERR_DENIED				? "mcp_scope_required"
		    : rc == ERR_TIMEOUT				? "mcp_timeout"
		    : rc == ERR_PROTOCOL			? "mcp_error"
		    : rc == ERR_TOO_LARGE			? "invalid_arguments"
		    : rc == ERR_CANCELLED			? "cancelled"
		    : rc == ERR_INTERRUPTED || rc == ERR_CLOSED ? "mcp_interrupted"
								: "mcp_unavailable";
	return rc;
}

int remote_perform(struct remotes *r, const struct remote_who *who, const json_t *definitions,
    const struct remote_call *call, struct mcp_outcome *ret, const char **ret_code, struct why *why)
{
	const json_t *d = definition_named(definitions, call->server);
	struct remote *m;
	struct why inner = {0};
	int rc = OK;

	if (d == NULL) {
		*ret_code = "unknown_tool";
		return why_set(why, ERR_NOT_FOUND, "there is no MCP server of that name (any more)");
	}
	m = remote_take(r, who, d);
	/* A session that the server has forgotten is begun anew, and the call repeated once: it was not performed. */
	for (int i = 0; i < 2; i++) {
		bool lost = false;
		int64_t left = call->deadline_mono_ms > 0 ? call->deadline_mono_ms - clock_mono_ms() : 30000;

		remote_begin(m, false);
		await_all(r, &m, 1, MIN(MAX(left, 0), 60000), call->stop);
		rc = perform_once(m, call, ret, &lost, ret_code, &inner);
		if (!lost)
			break;
	}
	remote_give(m);
	if (rc != OK)
		why_set(why, rc, "%s", inner.text[0] != '\0' ? inner.text : err_text(rc));
	return rc;
}

/* Takes out one that nobody has used for long; NULL: there is none. */
static struct remote *take_idle(struct remotes *r, bool all)
{
	int64_t now = clock_mono_ms();
	struct remote *found = NULL;

	for (struct remote **at = &r->all; *at != NULL && found == NULL; at = &(*at)->next)
		if ((*at)->refs == 0 && (*at)->users == 0 && (all || now - (*at)->used_ms >= IDLE_MS)) {
			found = *at;
			*at = found->next;
			break;
		}
	return found;
}

static void sweep(void *arg)
{
	struct remotes *r = arg;

	pthread_mutex_lock(&r->lock);
	while (!r->closing) {
		int64_t until = clock_mono_ms() + SWEEP_MS;
		struct timespec ts = {.tv_sec = until / 1000, .tv_nsec = until % 1000 * 1000000};
		struct remote *m;

		while (!r->closing && clock_mono_ms() < until)
			pthread_cond_timedwait(&r->cond, &r->lock, &ts);
		while ((m = take_idle(r, false)) != NULL) {
			pthread_mutex_unlock(&r->lock);
			remote_free(m); /* says goodbye to the server */
			pthread_mutex_lock(&r->lock);
		}
	}
	r->sweeping = false;
	pthread_cond_broadcast(&r->cond);
	pthread_mutex_unlock(&r->lock);
}

int remotes_begin(struct remotes *r)
{
	pthread_condattr_t attr;
	int rc;

	pthread_mutex_init(&r->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&r->cond, &attr);
	pthread_condattr_destroy(&attr);
	r->openers = pool_new("mcp", OPENERS, OPENERS_WAITING);
	r->sweeping = true;
	rc = thread_start("mcp-sweep", (size_t)256 * 1024, sweep, r);
	if (rc != OK)
		r->sweeping = false;
	return rc;
}

void remotes_end(struct remotes *r)
{
	struct remote *m;

	if (r->openers == NULL)
		return;
	atomic_store(&r->stop, true);
	pthread_mutex_lock(&r->lock);
	r->closing = true;
	pthread_cond_broadcast(&r->cond);
	while (r->sweeping)
		pthread_cond_wait(&r->cond, &r->lock);
	pthread_mutex_unlock(&r->lock);
	pool_free(&r->openers);
	while ((m = take_idle(r, true)) != NULL)
		remote_free(m);
	pthread_mutex_destroy(&r->lock);
	pthread_cond_destroy(&r->cond);
}

/* `from` behind `to`, but for names that are there already. */
static void merge(json_t *to, json_t *names, const json_t *definition)
{
	const char *name = name_of(definition);

	if (json_object_get(names, name) != NULL)
		return;
	json_object_set_new(names, name, json_true());
	json_array_append(to, (json_t *)definition);
}

int remote_definitions(struct remotes *r, const struct kept_owner *o, const json_t *inline_servers, json_t **ret_remote,
    json_t **ret_stdio)
{
	AUTO_JSON names = json_object();
	AUTO_JSON all = json_array();
	AUTO_JSON kept = NULL;
	AUTO(tx) tx = NULL;
	json_t *d;
	size_t i;
	int rc = tx_begin(r->store, TX_READ, &tx);

	if (rc == OK)
		rc = kept_servers(tx, r->seal, o, &kept);
	if (rc != OK)
		return rc;
	json_array_foreach((json_t *)inline_servers, i, d) merge(all, names, d);
	json_array_foreach(kept, i, d) merge(all, names, json_object_get(d, "definition"));
	*ret_remote = json_array();
	*ret_stdio = json_array();
	json_array_foreach(all, i, d)
	    json_array_append(json_object_get(d, "url") != NULL ? *ret_remote : *ret_stdio, d);
	return OK;
}
