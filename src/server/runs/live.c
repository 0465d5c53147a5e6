#include "base/log.h"
#include "base/mem.h"
#include "mcp/allow.h"
#include "mcp/tools.h"
#include "server/runs/mcp_tools.h"
#include "server/runs/run.h"
#include "server/runs/tools.h"
#include <pthread.h>

#define REASON_TOLD 600
#define NOT_IN_REPOSITORY "environment.json of the repository does not allow it"

struct live {
	pthread_mutex_t lock; /* a leaf */
	unsigned version; /* grows with each change; 0: the session is not open yet */
	json_t *worker_servers; /* an array, replaced as a whole; NULL: none */
	json_t *control_servers; /* the same */
	json_t *control_raw; /* before the repository's narrowing */
	json_t *narrowing; /* of the repository, for servers of the control plane: a worker's are narrowed there */
	json_t *told; /* by the name of a server: how it was told last; of the run's own loop */
	char *call_id; /* of the opening: what is told is told as output of that */
	unsigned kept; /* the version that the store has */
};

struct live *live_new(void)
{
	struct live *v = NEW(struct live);

	pthread_mutex_init(&v->lock, NULL);
	v->told = json_object();
	return v;
}

void live_free(struct live **vp)
{
	struct live *v = TAKE(*vp);

	if (v == NULL)
		return;
	json_decref(v->worker_servers);
	json_decref(v->control_servers);
	json_decref(v->control_raw);
	json_decref(v->narrowing);
	json_decref(v->told);
	free(v->call_id);
	pthread_mutex_destroy(&v->lock);
	free(v);
}

/* A list as a narrowing leaves it, a new array: what is not allowed is there in name only. `from`: the member of an
 * entry that says where it comes from, NULL: the entry itself. */
static json_t *narrowed(const json_t *narrowing, json_t *servers, const char *from, const char *reason)
{
	json_t *list, *entry;
	size_t i;

	if (narrowing == NULL)
		return json_incref(servers);
	list = json_array();
	json_array_foreach(servers, i, entry)
	{
		const char *name = json_string_value(json_object_get(entry, "name"));
		const json_t *where = from != NULL ? json_object_get(entry, from) : entry, *tools = NULL;
		json_t *few;

		if (name == NULL)
			continue;
		if (strcmp(json_word(entry, "state"), "off") == 0)
			few = json_incref(entry);
		else if (mcp_is_narrowed_away(narrowing, name, where, &tools))
			few = mcp_entry_new(name, "off", reason, NULL, NULL, NULL);
		else
			few = mcp_narrow(entry, tools);
		json_array_append_new(list, few);
	}
	return list;
}

static void set_servers(struct run *r, json_t *servers)
{
	struct live *v = r->live;
	json_t *list =
	    json_is_array(servers) ? narrowed(r->inputs.mcp_narrowing, servers, "started", MCP_NOT_ALLOWED) : NULL;

	pthread_mutex_lock(&v->lock);
	json_decref(v->worker_servers);
	v->worker_servers = list;
	v->version++;
	pthread_mutex_unlock(&v->lock);
}

/* With the lock held. Those that the team refused have no URL and stay as they are told. */
static void narrow_control(const struct run *r)
{
	struct live *v = r->live;
	AUTO_JSON of_team = narrowed(r->inputs.mcp_narrowing, v->control_raw, NULL, MCP_NOT_ALLOWED);

	json_decref(v->control_servers);
	v->control_servers = narrowed(v->narrowing, of_team, NULL, NOT_IN_REPOSITORY);
	v->version++;
}

void live_set_control(struct run *r, json_t *servers)
{
	struct live *v = r->live;

	pthread_mutex_lock(&v->lock);
	json_decref(v->control_raw);
	v->control_raw = json_incref(servers);
	narrow_control(r);
	pthread_mutex_unlock(&v->lock);
}

static char *as_told(const json_t *server)
{
	return str_printf("%s %s", json_word(server, "state"), json_word(server, "reason"));
}

static void note_told(json_t *told, const json_t *servers)
{
	const json_t *server;
	size_t i;

	json_array_foreach((json_t *)servers, i, server)
	{
		AUTO_STR now = as_told(server);

		json_put(told, json_word(server, "name"), now);
	}
}

/* A worker that is older than this says nothing about them. */
static json_t *nobody_started(const struct run *r)
{
	json_t *list = json_array(), *server;
	size_t i;

	json_array_foreach(r->inputs.mcp_servers, i, server)
	{
		if (json_object_get(server, "command") != NULL)
			json_array_append_new(
			    list, mcp_entry_new(json_word(server, "name"), "failed",
				      "this worker starts none: update its agent program", NULL, NULL, NULL));
	}
	return list;
}

static void set_narrowing(struct run *r, json_t *narrowing)
{
	struct live *v = r->live;

	if (!json_is_object(narrowing))
		return;
	pthread_mutex_lock(&v->lock);
	json_decref(v->narrowing);
	v->narrowing = json_incref(narrowing);
	if (v->control_raw != NULL)
		narrow_control(r);
	pthread_mutex_unlock(&v->lock);
}

void live_enter(struct run *r, const json_t *info, const char *call_id, bool again)
{
	struct live *v = r->live;
	AUTO_JSON none = NULL;

	str_set(&v->call_id, call_id);
	if (r->mcp_json != NULL && !json_is_array(json_object_get(info, "mcpServers")))
		none = nobody_started(r);
	set_servers(r, none != NULL ? none : json_object_get(info, "mcpServers"));
	set_narrowing(r, json_object_get(info, "mcpNarrowing"));
	v->kept = v->version;
	if (again) {
		note_told(v->told, v->worker_servers);
		note_told(v->told, v->control_servers);
	}
}

void live_take(struct run *r, const char *text, size_t len)
{
	AUTO_JSON news = NULL;

	if (json_parse(text, len, &news, NULL) != OK || !json_is_object(news)) {
		log_warn("run.session_news.malformed", "run=%s", r->info->id);
		return;
	}
	redact_json(r->redactor, &news);
	if (json_object_get(news, "mcpServers") != NULL)
		set_servers(r, json_object_get(news, "mcpServers"));
}

/* One line of the log for each server that cannot be used, when that is new. */
static int tell_servers(struct loop *l, const json_t *servers, json_t *told)
{
	const json_t *server, *warning;
	size_t i, k;
	int rc = OK;

	json_array_foreach((json_t *)servers, i, server)
	{
		const char *name = json_word(server, "name"), *state = json_word(server, "state"),
			   *reason = json_word(server, "reason");
		AUTO_STR now = as_told(server);
		bool ready = strcmp(state, "ready") == 0;

		if (rc != OK || name[0] == '\0' || strcmp(json_word(told, name), now) == 0)
			continue;
		if (!ready || json_object_get(told, name) != NULL) {
			AUTO_STR text =
			    ready ? str_printf("MCP server %s is there now", name)
			    : strcmp(state, "starting") == 0
				? str_printf("warning: MCP server %s is not there yet; its tools come later", name)
				: str_printf("warning: MCP server %s is not available: %.*s", name, REASON_TOLD,
				      reason[0] != '\0' ? reason : state);
			rc = log_line(&l->log, l->run->live->call_id, text);
		}
		json_array_foreach(json_object_get(server, "warnings"), k, warning)
		{
			AUTO_STR text = str_printf("warning: MCP server %s: %.*s", name, REASON_TOLD,
			    json_is_string(warning) ? json_string_value(warning) : "");
			if (rc == OK && k < 10)
				rc = log_line(&l->log, l->run->live->call_id, text);
		}
		json_put(told, name, now);
	}
	return rc;
}

/* Of what the worker said when the session was opened, the present list takes the place. */
static int keep_servers(struct loop *l, json_t *servers)
{
	const struct run *r = l->run;
	AUTO_JSON info = json_copy(r->session_info);
	AUTO_STR text = NULL;

	json_put_new(info, "mcpServers", servers != NULL ? json_incref(servers) : json_array());
	text = json_text(info);
	return tx_exec(l->tx, "UPDATE run_sessions SET session_info = $2 WHERE run_id = $1", "ss", r->info->id, text);
}

static int write_changes(struct loop *l, json_t *servers, json_t *control, unsigned version)
{
	struct live *v = l->run->live;
	AUTO_JSON told = NULL;
	int rc;

	do {
		json_decref(told);
		told = json_copy(v->told);
		rc = loop_begin_write(l);
		if (rc == OK)
			rc = tell_servers(l, servers, told);
		if (rc == OK)
			rc = tell_servers(l, control, told);
		if (rc == OK && v->kept != version)
			rc = keep_servers(l, servers);
	} while (loop_end_write(l, &rc));
	if (rc != OK)
		return rc;
	json_decref(v->told);
	v->told = TAKE(told);
	v->kept = version;
	return OK;
}

int live_refresh(struct loop *l, bool *ret_changed)
{
	struct live *v = l->run->live;
	AUTO_JSON servers = NULL;
	AUTO_JSON control = NULL;
	unsigned version;
	int rc = OK;

	pthread_mutex_lock(&v->lock);
	version = v->version;
	servers = json_incref(v->worker_servers);
	control = json_incref(v->control_servers);
	pthread_mutex_unlock(&v->lock);
	*ret_changed = l->all == NULL || l->live_version != version;
	if (!*ret_changed)
		return OK;
	json_decref(l->all);
	l->all = mcp_tools_for_run(l->run->tools, servers, control);
	l->live_version = version;
	if (l->depth == 0 && (json_array_size(servers) > 0 || json_array_size(control) > 0))
		rc = write_changes(l, servers, control, version);
	return rc;
}

char *live_instructions(struct run *r)
{
	struct live *v = r->live;
	char *text;

	pthread_mutex_lock(&v->lock);
	text = mcp_instructions(v->worker_servers, v->control_servers);
	pthread_mutex_unlock(&v->lock);
	return text;
}
