#include "agent/worker/context_inventory.h"
#include "agent/worker/exec.h"
#include "base/repo_url.h"
#include "agent/worker/session_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_STATUS_BYTES (8 * 1024)

struct session *session_new(const struct session_config *cfg)
{
	struct session *s = NEW(struct session);

	ENSURE(cfg->n_roots > 0);
	s->magic = SESSION_MAGIC;
	s->cfg = *cfg;
	str_set(&s->agent_id, "");
	str_set(&s->claim_id, "");
	str_set(&s->scratch, "");
	str_set(&s->repo_url, "");
	str_set(&s->branch, "");
	pthread_mutex_init(&s->lock, NULL);
	s->rules = rules_new();
	return s;
}

void session_free(struct session **sp)
{
	struct session *s = *sp;

	if (s == NULL)
		return;
	OBJ_CHECK(s, SESSION_MAGIC);
	session_close(s);
	str_free(&s->agent_id);
	str_free(&s->claim_id);
	str_free(&s->scratch);
	str_free(&s->agent_dir);
	str_free(&s->repo_url);
	str_free(&s->branch);
	str_free(&s->top);
	pthread_mutex_destroy(&s->lock);
	rules_free(&s->rules);
	free(s->background);
	s->magic = 0;
	free(s);
	*sp = NULL;
}

void session_warn(json_t *warnings, const char *fmt, ...)
{
	va_list ap;
	AUTO_STR text = NULL;

	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	json_array_append_new(warnings, json_lossy(text, strlen(text)));
}

static int session_make_dirs(const char *path)
{
	AUTO_STR p = str_dup(path);

	for (char *c = p + 1;; c++) {
		char was = *c;

		if (was != '/' && was != '\0')
			continue;
		*c = '\0';
		if (mkdir(p, 0700) != 0 && errno != EEXIST)
			return err_from_errno(errno);
		*c = was;
		if (was == '\0')
			return OK;
	}
}

static int make_scratch(struct session *s, const char *agent_id, struct why *why)
{
	AUTO_STR agent_dir = str_printf("%s/%s", s->cfg.state_dir, agent_id);
	AUTO_STR dir = str_printf("%s/scratch", agent_dir);
	char *real;
	int rc;

	/* What another process left there may still run. */
	if (access(dir, F_OK) == 0)
		atomic_store(&s->started, true);
	rc = session_make_dirs(dir);

	if (rc != OK || (real = realpath(dir, NULL)) == NULL)
		return why_set(why, rc != OK ? rc : ERR_IO, "cannot make the folder '%s' on the worker", dir);
	free(s->scratch);
	s->scratch = real;
	str_set(&s->agent_dir, agent_dir);
	return OK;
}

static void put_system(json_t *info)
{
	struct utsname u;

	ENSURE(uname(&u) == 0);
	for (char *c = u.sysname; *c != '\0'; c++)
		*c = (char)tolower((unsigned char)*c);
	json_put(info, "os", u.sysname);
	json_put(info, "arch", u.machine);
	json_put(info, "shell", exec_shell_name());
}

static void put_git_state(json_t *info, const struct session *s, struct git *g)
{
	AUTO_STR head = NULL;
	AUTO_STR status = NULL;
	AUTO_STR base = session_base(g, s->branch);
	AUTO_STR cut = NULL;

	IGNORE(git_must(g, GIT_ARGS("rev-parse", "-q", "--verify", "HEAD"), &head, NULL));
	IGNORE(git_must(g, GIT_ARGS("status", "--short", "--branch"), &status, NULL));
	cut =
	    text_cut_middle(status != NULL ? status : "", strlen(status != NULL ? status : ""), MAX_STATUS_BYTES, NULL);
	json_put(info, "baseCommit", base);
	json_put(info, "headCommit", head != NULL ? head : "");
	json_put(info, "gitStatus", cut);
}

/* What this session has beyond the tools of the program, if anything. */
static void session_put_tools(json_t *info, const struct session *s)
{
	AUTO_STR text = tools_describe(s);
	json_t *tools = NULL;

	ENSURE(json_parse(text, strlen(text), &tools, NULL) == OK);
	if (json_array_size(tools) > 0)
		json_put_new(info, "tools", json_incref(tools));
	json_decref(tools);
}

static json_t *describe_session(struct session *s, struct git *g, bool resumed, json_t *warnings)
{
	json_t *info = json_object(), *roots = json_array();

	for (size_t i = 0; i < s->cfg.n_roots; i++)
		json_array_append_new(roots, json_lossy(s->cfg.roots[i], strlen(s->cfg.roots[i])));
	json_put_new(info, "workspaceRoots", roots);
	json_put(info, "repoUrl", s->repo_url);
	json_put(info, "branch", s->branch);
	if (s->branch[0] != '\0') {
		put_git_state(info, s, g);
	} else {
		json_put(info, "baseCommit", "");
		json_put(info, "headCommit", "");
		json_put(info, "gitStatus", "");
	}
	put_system(info);
	session_put_tools(info, s);
	context_inventory(s->cfg.roots, s->cfg.n_roots, info, warnings);
	json_put_new(info, "warnings", json_incref(warnings));
	json_put_bool(info, "resumed", resumed);
	return info;
}

static int open_repo(struct session *s, const struct session_open *want, struct git *g, json_t *warnings,
    bool *ret_resumed, struct why *why)
{
	struct checkout c = {0};
	int rc = session_checkout(s, want, g, warnings, &c, why);

	if (rc != OK)
		return rc;
	free(s->branch);
	free(s->top);
	free(s->repo_url);
	s->branch = c.branch;
	s->top = c.top;
	s->repo_url = repo_url_redact(want->repo_url);
	g->dir = s->top;
	*ret_resumed = c.resumed;
	return OK;
}

int session_open(struct session *s, const struct session_open *want, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct why *why)
{
	AUTO_JSON warnings = json_array();
	struct git g = {.agent_id = want->agent_id, .cancel_fd = cancel_fd, .deadline_mono_ms = deadline_mono_ms};
	bool resumed = false;
	int rc;

	OBJ_CHECK(s, SESSION_MAGIC);
	if (!text_is_token(want->agent_id, "-_.", 128) || want->agent_id[0] == '.')
		return why_set(why, ERR_INVALID, "the agent id is malformed");
	if (s->agent_id[0] != '\0' && strcmp(s->agent_id, want->agent_id) != 0)
		session_close(s);
	g.dir = s->cfg.roots[0];
	rc = make_scratch(s, want->agent_id, why);
	if (want->repo_url[0] != '\0')
		g.scratch_dir = session_program_mark(s);
	if (rc == OK && want->repo_url[0] != '\0')
		rc = open_repo(s, want, &g, warnings, &resumed, why);
	else if (rc == OK)
		resumed = s->agent_id[0] != '\0';
	str_set(&s->agent_id, want->agent_id);
	str_set(&s->claim_id, want->claim_id != NULL ? want->claim_id : "");
	if (rc != OK) {
		int interrupted = git_interrupted(&g, why);

		session_close(s);
		return interrupted != OK ? interrupted : rc;
	}
	*ret_info = describe_session(s, &g, resumed, warnings);
	return OK;
}

static void reap_locked(struct session *s)
{
	size_t kept = 0;

	for (size_t i = 0; i < s->n_background; i++)
		if (waitpid(s->background[i], NULL, WNOHANG) == 0)
			s->background[kept++] = s->background[i];
	s->n_background = kept;
}

void session_add_background(struct session *s, int pid)
{
	pthread_mutex_lock(&s->lock);
	reap_locked(s);
	s->background = mem_grow(s->background, &s->cap_background, s->n_background + 1, sizeof *s->background);
	s->background[s->n_background++] = pid;
	pthread_mutex_unlock(&s->lock);
}

void session_remove_folder(const char *path)
{
	struct exec_result r;
	const char *argv[] = {"rm", "-rf", "--", path, NULL};
	AUTO_STR scratch = str_printf("%s/scratch", path);

	/* Mostly nothing was written there. */
	if ((rmdir(scratch) == 0 || errno == ENOENT) && rmdir(path) == 0)
		return;
	if (exec_run(&EXEC_SPEC(.argv = argv, .deadline_mono_ms = clock_mono_ms() + 30000), &r, NULL) == OK)
		exec_result_fini(&r);
}

/* Closing is exclusive, so the list can be read without its lock while processes die. */
static void kill_leftovers(struct session *s)
{
	/* All that any call of this agent started names its scratch folder, also across a restart of the worker. The
	 * agent's id would not do: another worker on this machine may have the agent next. */
	AUTO_STR mark = str_printf("CURSOR_AGENT_SCRATCH=%s", s->scratch);

	exec_kill_all(mark, 0, CLOSE_TERM_MS, CLOSE_GIVE_UP_MS);
	pthread_mutex_lock(&s->lock);
	reap_locked(s);
	pthread_mutex_unlock(&s->lock);
	/* Group leaders that overwrote their environment. */
	for (size_t i = 0; i < s->n_background; i++)
		exec_kill_all(mark, s->background[i], CLOSE_TERM_MS, CLOSE_GIVE_UP_MS);
	pthread_mutex_lock(&s->lock);
	reap_locked(s);
	s->n_background = 0;
	pthread_mutex_unlock(&s->lock);
}

void session_close(struct session *s)
{
	OBJ_CHECK(s, SESSION_MAGIC);
	if (s->agent_id[0] == '\0')
		return;
	if (atomic_exchange(&s->started, false))
		kill_leftovers(s);
	if (s->agent_dir != NULL)
		session_remove_folder(s->agent_dir);
	rules_forget(s->rules);
	tools_remove(s);
	str_free(&s->agent_dir);
	str_free(&s->top);
	str_set(&s->agent_id, "");
	str_set(&s->claim_id, "");
	str_set(&s->scratch, "");
	str_set(&s->repo_url, "");
	str_set(&s->branch, "");
}

const char *session_agent_id(const struct session *s)
{
	return s->agent_id;
}

const char *session_claim_id(const struct session *s)
{
	return s->claim_id;
}

const struct tool_hooks *session_tool_hooks(const struct session *s)
{
	return &s->hooks;
}

const char *session_primary_root(const struct session *s)
{
	return s->cfg.roots[0];
}

size_t session_roots(const struct session *s, const char *const **ret_roots)
{
	*ret_roots = s->cfg.roots;
	return s->cfg.n_roots;
}

const char *session_program_mark(struct session *s)
{
	atomic_store(&s->started, true);
	return s->scratch;
}

const char *session_scratch_dir(const struct session *s)
{
	return s->scratch;
}

struct rules *session_rules(const struct session *s)
{
	return s->rules;
}
