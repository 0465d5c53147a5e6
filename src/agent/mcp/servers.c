#include "agent/mcp/servers.h"
#include "agent/mcp/files.h"
#include "agent/mcp/server.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include "mcp/allow.h"
#include "mcp/tools.h"
#include <poll.h>
#include <pthread.h>
#include <string.h>

#define LIST_MAX ((size_t)2 * 1024 * 1024) /* of all servers, as text: it travels in one message */

struct mcp_servers {
	struct session *session;
	void (*news)(void *ctx, const char *agent_id, const char *claim_id, const char *json);
	void *ctx;
	pthread_mutex_t lock; /* of the list; before a server's */
	pthread_cond_t cond;
	struct mcp_server *list[MCP_SERVERS_MAX];
	size_t n;
	json_t *allowed; /* by the name of a server the tools that environment.json lets it offer; absent: all */
	bool told; /* the list was told once: from then on changes are news */
	unsigned changes;
	pthread_mutex_t telling; /* news go out in the order of what they say; before `lock` */
};

struct mcp_servers *mcp_servers_new(
    struct session *s, void (*news)(void *ctx, const char *agent_id, const char *claim_id, const char *json), void *ctx)
{
	struct mcp_servers *m = NEW(struct mcp_servers);
	pthread_condattr_t attr;

	*m = (struct mcp_servers){.session = s, .news = news, .ctx = ctx};
	pthread_mutex_init(&m->lock, NULL);
	pthread_mutex_init(&m->telling, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&m->cond, &attr);
	pthread_condattr_destroy(&attr);
	return m;
}

/* With where it comes from, which policies look at. */
static json_t *listed_entry(struct mcp_server *s)
{
	AUTO_JSON entry = mcp_server_entry(s);
	json_t *copy = json_copy(entry);

	json_object_set(copy, "started", (json_t *)mcp_server_written(s));
	return copy;
}

/* With the lock held. What does not fit any more is there in name only. */
static json_t *list_all(struct mcp_servers *m)
{
	json_t *all = json_array();
	size_t bytes = 0;

	for (size_t i = 0; i < m->n; i++) {
		AUTO_JSON entry = listed_entry(m->list[i]);
		AUTO_JSON few = mcp_narrow(entry, json_object_get(m->allowed, mcp_server_name(m->list[i])));
		AUTO_STR text = json_text(few);

		if (bytes + strlen(text) > LIST_MAX) {
			json_array_append_new(all,
			    mcp_entry_new(mcp_server_name(m->list[i]), "failed",
				"its tools do not fit: all servers together may describe 2 MiB", NULL, NULL, NULL));
			continue;
		}
		bytes += strlen(text);
		json_array_append(all, few);
	}
	return all;
}

static void on_changed(void *ctx)
{
	struct mcp_servers *m = ctx;
	AUTO_JSON news = NULL;

	pthread_mutex_lock(&m->telling);
	pthread_mutex_lock(&m->lock);
	m->changes++;
	pthread_cond_broadcast(&m->cond);
	if (m->told)
		news = json_pack("{s:o}", "mcpServers", list_all(m));
	pthread_mutex_unlock(&m->lock);
	if (news != NULL) {
		AUTO_STR text = json_text(news);
		m->news(m->ctx, session_agent_id(m->session), session_claim_id(m->session), text);
	}
	pthread_mutex_unlock(&m->telling);
}

/* Those that are wanted: the control plane's first, which are the stronger ones. */
struct wanted {
	struct mcp_definition v[MCP_SERVERS_MAX];
	size_t n;
};

static void want(struct wanted *w, const json_t *entry, const char *name, bool of_file, const struct mcp_scene *scene,
    json_t *warnings)
{
	struct mcp_definition d;

	mcp_definition_read(entry, name, of_file, scene, &d);
	for (size_t i = 0; i < w->n; i++) {
		if (strcmp(w->v[i].name, d.name) != 0)
			continue;
		AUTO_STR text = str_printf("the MCP server %s of a file is hidden by another one of that name", d.name);
		json_array_append_new(warnings, json_string(text));
		mcp_definition_fini(&d);
		return;
	}
	if (w->n == MCP_SERVERS_MAX) {
		AUTO_STR text =
		    str_printf("the MCP server %s was left out: there are %d already", d.name, MCP_SERVERS_MAX);
		json_array_append_new(warnings, json_string(text));
		mcp_definition_fini(&d);
		return;
	}
	w->v[w->n++] = d;
}

/* Notes down which tools it may offer. */
static bool is_left_out(json_t *allowed, const json_t *narrowing, const char *name, const json_t *entry)
{
	const json_t *tools = NULL;

	if (mcp_is_narrowed_away(narrowing, name, entry, &tools))
		return true;
	if (tools != NULL && name != NULL && json_object_get(allowed, name) == NULL)
		json_object_set(allowed, name, (json_t *)tools);
	return false;
}

static void want_all(struct mcp_servers *m, const struct mcp_servers_wish *wish, const json_t *narrowing,
    struct wanted *w, json_t *warnings)
{
	const struct mcp_scene scene = {.workspace = session_primary_root(m->session), .variables = wish->variables};
	json_t *allowed = json_object();
	const json_t *entry;
	size_t i;

	json_array_foreach((json_t *)wish->definitions, i, entry)
	{
		const char *name = json_string_value(json_object_get(entry, "name"));

		if (!is_left_out(allowed, narrowing, name, entry))
			want(w, entry, NULL, false, &scene, warnings);
	}
	for (int place = 0; wish->of_files && place < MCP_FILES; place++) {
		AUTO_JSON servers = mcp_file_read(m->session, place, warnings);
		const char *name;
		json_t *one;

		json_object_foreach(servers, name, one)
		{
			if (!is_left_out(allowed, narrowing, name, one))
				want(w, one, name, true, &scene, warnings);
		}
	}
	pthread_mutex_lock(&m->lock);
	json_decref(m->allowed);
	m->allowed = allowed;
	pthread_mutex_unlock(&m->lock);
}

/* Of those that run the one with that name and identity; out of the list. */
static struct mcp_server *take_running(struct mcp_servers *m, const struct mcp_definition *d)
{
	for (size_t i = 0; i < m->n; i++) {
		struct mcp_server *s = m->list[i];

		/* One that could not be started may be by now. */
		if (s == NULL || mcp_server_has_failed(s) || strcmp(mcp_server_name(s), d->name) != 0 ||
		    strcmp(mcp_server_identity(s), d->identity) != 0)
			continue;
		m->list[i] = NULL;
		return s;
	}
	return NULL;
}

/* Those that stay keep running; the others end side by side. */
static void replace(struct mcp_servers *m, struct wanted *w)
{
	struct mcp_server *list[MCP_SERVERS_MAX], *old[MCP_SERVERS_MAX];
	size_t n_old;

	pthread_mutex_lock(&m->lock);
	for (size_t i = 0; i < w->n; i++)
		list[i] = take_running(m, &w->v[i]);
	n_old = m->n;
	memcpy(old, m->list, sizeof old);
	m->n = 0;
	for (size_t i = 0; i < w->n; i++) {
		if (list[i] == NULL)
			list[i] = mcp_server_new(&w->v[i],
			    &(struct mcp_server_config){.session = m->session, .changed = on_changed, .ctx = m});
		else
			mcp_definition_fini(&w->v[i]);
		m->list[m->n++] = list[i];
	}
	pthread_mutex_unlock(&m->lock);
	for (size_t i = 0; i < n_old; i++)
		if (old[i] != NULL)
			mcp_server_stop(old[i]);
	for (size_t i = 0; i < n_old; i++)
		mcp_server_free(&old[i]);
}

static bool any_starts(struct mcp_servers *m)
{
	for (size_t i = 0; i < m->n; i++)
		if (mcp_server_is_starting(m->list[i]))
			return true;
	return false;
}

#define CANCEL_LOOK_MS 50

static void wait_for_starts(struct mcp_servers *m, int64_t until_ms, int cancel_fd)
{
	struct pollfd p = {cancel_fd, POLLIN, 0};

	pthread_mutex_lock(&m->lock);
	while (any_starts(m) && clock_mono_ms() < until_ms && (cancel_fd < 0 || poll(&p, 1, 0) == 0)) {
		int64_t at = MIN(until_ms, clock_mono_ms() + CANCEL_LOOK_MS);
		const struct timespec ts = {.tv_sec = at / 1000, .tv_nsec = at % 1000 * 1000000};

		pthread_cond_timedwait(&m->cond, &m->lock, &ts);
	}
	pthread_mutex_unlock(&m->lock);
}

static void add_warnings(json_t *info, json_t *warnings)
{
	if (json_array_size(warnings) == 0)
		return;
	if (json_object_get(info, "warnings") == NULL)
		json_put_new(info, "warnings", json_array());
	json_array_extend(json_object_get(info, "warnings"), warnings);
}

void mcp_servers_none(struct session *s, json_t *info)
{
	AUTO_JSON warnings = json_array();
	json_t *narrowing = mcp_narrowing_read(s, warnings);

	if (narrowing != NULL)
		json_put_new(info, "mcpNarrowing", narrowing);
	add_warnings(info, warnings);
}

void mcp_servers_open(
    struct mcp_servers *m, const struct mcp_servers_wish *wish, int64_t until_mono_ms, int cancel_fd, json_t *info)
{
	struct wanted w = {.n = 0};
	AUTO_JSON warnings = json_array();
	AUTO_JSON narrowing = mcp_narrowing_read(m->session, warnings);

	pthread_mutex_lock(&m->telling);
	m->told = false;
	pthread_mutex_unlock(&m->telling);
	want_all(m, wish, narrowing, &w, warnings);
	if (narrowing != NULL)
		json_object_set(info, "mcpNarrowing", narrowing);
	replace(m, &w);
	wait_for_starts(m, until_mono_ms, cancel_fd);
	pthread_mutex_lock(&m->telling);
	pthread_mutex_lock(&m->lock);
	m->told = true;
	if (m->n > 0 || json_array_size(wish->definitions) > 0)
		json_put_new(info, "mcpServers", list_all(m));
	pthread_mutex_unlock(&m->lock);
	pthread_mutex_unlock(&m->telling);
	add_warnings(info, warnings);
}

void mcp_servers_end(void *what)
{
	struct mcp_servers *m = what;
	struct wanted none = {.n = 0};

	pthread_mutex_lock(&m->telling);
	m->told = false;
	pthread_mutex_unlock(&m->telling);
	replace(m, &none);
	json_decref(m->allowed);
	pthread_cond_destroy(&m->cond);
	pthread_mutex_destroy(&m->lock);
	pthread_mutex_destroy(&m->telling);
	free(m);
}

static struct mcp_server *find(const struct mcp_servers *m, const char *name)
{
	for (size_t i = 0; i < m->n; i++)
		if (strcmp(mcp_server_name(m->list[i]), name) == 0)
			return m->list[i];
	return NULL;
}

/* The list changes only while no call of the session runs, so a server that was found stays. */
static struct mcp_server *find_locked(struct mcp_servers *m, const char *name, struct why *why)
{
	struct mcp_server *s;

	pthread_mutex_lock(&m->lock);
	s = find(m, name);
	pthread_mutex_unlock(&m->lock);
	if (s == NULL)
		why_set(why, ERR_NOT_FOUND, "this session has no MCP server %s", name);
	return s;
}

json_t *mcp_servers_tool(struct mcp_servers *m, const char *server, const char *tool, struct why *why)
{
	struct mcp_server *s = find_locked(m, server, why);
	AUTO_JSON whole = s != NULL ? mcp_server_entry(s) : NULL;
	AUTO_JSON entry = mcp_narrow(whole, json_object_get(m->allowed, server));
	const char *reason = json_string_value(json_object_get(entry, "reason"));
	json_t *one;
	size_t i;

	if (s == NULL)
		return NULL;
	json_array_foreach(json_object_get(entry, "tools"), i, one)
	{
		if (strcmp(json_string_value(json_object_get(one, "name")), tool) == 0)
			return json_incref(one);
	}
	why_set(why, ERR_NOT_FOUND, "the MCP server %s has no tool %.128s%s%s", server, tool,
	    reason != NULL ? ": " : "", reason != NULL ? reason : "");
	return NULL;
}

char *mcp_servers_command_line(struct mcp_servers *m, const char *server)
{
	struct why why;
	struct mcp_server *s = server != NULL ? find_locked(m, server, &why) : NULL;

	return s != NULL ? str_dup(mcp_server_command_line(s)) : NULL;
}

int mcp_servers_call(
    struct mcp_servers *m, const char *server, const struct mcp_call *call, struct mcp_answer *ret, struct why *why)
{
	struct mcp_server *s = find_locked(m, server, why);

	return s != NULL ? mcp_server_call(s, call, ret, why) : ERR_NOT_FOUND;
}
