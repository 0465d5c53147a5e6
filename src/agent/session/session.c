#include "agent/session/beneath.h"
#include "agent/session/context_inventory.h"
#include "agent/session/exec.h"
#include "agent/session/session_priv.h"
#include "base/artifact_path.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_STATUS_BYTES (8 * 1024)
#define KEEP_LIMIT_MS 60000

struct session *session_new(const struct session_config *cfg)
{
	struct session *s = NEW(struct session);

	ENSURE(cfg->n_roots > 0);
	s->magic = SESSION_MAGIC;
	s->cfg = *cfg;
	s->repos_dir = str_printf("%s/.repos", cfg->state_dir);
	str_set(&s->agent_id, "");
	str_set(&s->claim_id, "");
	str_set(&s->scratch, "");
	str_set(&s->repo_url, "");
	str_set(&s->branch, "");
	str_set(&s->base, "");
	str_set(&s->tip, "");
	pthread_mutex_init(&s->lock, NULL);
	s->rules = rules_new();
	session_roots_read(s);
	return s;
}

void session_free(struct session **sp)
{
	struct session *s = *sp;

	if (s == NULL)
		return;
	OBJ_CHECK(s, SESSION_MAGIC);
	session_close(s, NULL);
	session_end_removals(s);
	session_roots_fini(s);
	str_free(&s->repos_dir);
	str_free(&s->agent_id);
	str_free(&s->claim_id);
	str_free(&s->scratch);
	str_free(&s->agent_dir);
	str_free(&s->repo_url);
	str_free(&s->branch);
	str_free(&s->start);
	str_free(&s->top);
	str_free(&s->git_dir);
	str_free(&s->base);
	str_free(&s->tip);
	pthread_mutex_destroy(&s->lock);
	rules_free(&s->rules);
	free(s->background);
	s->magic = 0;
	free(s);
	*sp = NULL;
}

void session_failure_fini(struct session_failure *f)
{
	str_free(&f->said);
	json_decref(f->kept);
	f->kept = NULL;
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

int session_fail_machine(struct session_job *j, int rc)
{
	if (rc == ERR_NO_SPACE || rc == ERR_NET || rc == ERR_IO)
		j->fail->machine = true;
	return rc;
}

struct git session_git_inside(const struct session_job *j)
{
	struct git g = j->g;

	g.box = j->s->box;
	g.dir = g.work_tree = j->s->top;
	g.git_dir = j->s->git_dir;
	return g;
}

struct git session_git_depot(const struct session_job *j)
{
	return depot_git(&session_primary(j->s)->depot, &j->g);
}

int session_lock_depot(struct session_job *j, const struct session_root *r, int *ret)
{
	AUTO_STR dir = depot_path(j->s->repos_dir, &r->seed);
	int rc = depot_lock(j->s->cfg.locks, dir, j->g.cancel_fd, j->g.deadline_mono_ms, ret, &j->fail->why);

	j->fail->machine |= rc == ERR_TIMEOUT || rc == ERR_IO;
	return rc;
}

static int make_scratch(struct session *s, const char *agent_id, struct why *why)
{
	AUTO_STR agent_dir = str_printf("%s/%s", s->cfg.state_dir, agent_id);
	AUTO_STR dir = str_printf("%s/scratch", agent_dir);
	AUTO_STR real_dir = NULL;
	char *real;
	int rc;

	/* What another process left there may still run. */
	if (access(dir, F_OK) == 0)
		atomic_store(&s->started, true);
	rc = folder_make(dir, NULL);
	if (rc != OK || (real = realpath(dir, NULL)) == NULL)
		return why_set(why, rc != OK ? rc : ERR_IO, "cannot make the folder '%s' on the worker", dir);
	free(s->scratch);
	s->scratch = real;
	real_dir = str_ndup(real, strlen(real) - strlen("/scratch"));
	str_set(&s->agent_dir, real_dir);
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

static void put_git_state(json_t *info, const struct session_job *j)
{
	struct git g = session_git_inside(j);
	AUTO_STR status = NULL;
	AUTO_STR head = NULL;
	AUTO_STR cut = NULL;

	g.said = NULL;
	if (j->status != NULL) {
		status = str_dup(j->status);
		head = str_dup(j->s->tip);
	} else {
		IGNORE(git_must(&g, GIT_ARGS("status", "--short", "--branch"), &status, NULL));
		IGNORE(git_must(&g, GIT_ARGS("rev-parse", "-q", "--verify", "HEAD"), &head, NULL));
	}
	cut =
	    text_cut_middle(status != NULL ? status : "", strlen(status != NULL ? status : ""), MAX_STATUS_BYTES, NULL);
	json_put(info, "baseCommit", j->s->base);
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

static json_t *describe_session(const struct session_job *j, bool resumed)
{
	const struct session *s = j->s;
	json_t *info = json_object(), *roots = json_array();

	for (size_t i = 0; i < s->cfg.n_roots; i++)
		json_array_append_new(roots, json_lossy(s->paths[i], strlen(s->paths[i])));
	json_put_new(info, "workspaceRoots", roots);
	json_put(info, "repoUrl", s->repo_url);
	json_put(info, "branch", s->branch);
	if (s->branch[0] != '\0') {
		put_git_state(info, j);
	} else {
		json_put(info, "baseCommit", "");
		json_put(info, "headCommit", "");
		json_put(info, "gitStatus", "");
	}
	put_system(info);
	json_put(info, "workspace", tree_method_name(tree_method(session_primary(s)->tree)));
	session_put_tools(info, s);
	context_inventory(&(struct context_places){.roots = s->paths, .n_roots = s->cfg.n_roots, .home = s->cfg.home},
	    info, j->warnings);
	json_put_new(info, "warnings", json_incref(j->warnings));
	json_put_bool(info, "resumed", resumed);
	json_put(info, "isolation", box_level_name(s->box != NULL ? box_level(s->box) : BOX_NONE));
	return info;
}

/* A root below an untracked folder of the checkout is there all the same. */
static int make_root_folders(struct session_job *j)
{
	for (size_t i = 0; i < j->s->cfg.n_roots; i++) {
		int rc = folder_make(j->s->paths[i], NULL);

		if (rc != OK)
			return why_set(&j->fail->why, rc, "cannot make the folder '%s'", j->s->paths[i]);
	}
	return OK;
}

/* A path of a folder as a pattern of gitignore that means just that. */
static char *glob_literal(const char *path)
{
	struct strbuf b = STRBUF(64 * 1024);

	for (const char *c = path; *c != '\0'; c++) {
		if (strchr("\\*?[ ", *c) != NULL)
			strbuf_addc(&b, '\\');
		strbuf_addc(&b, *c);
	}
	return strbuf_take(&b);
}

/* What the agent leaves under artifacts/ is brought elsewhere and is no part of a commit, unless the repository has it.
 * Only when the checkout is as the commit says: what the worker's own folder has under that name does not stay. Without
 * the line it is committed, which is no reason to refuse the session. */
static void leave_artifacts_out(const struct session *s)
{
	const char *sub = s->roots[s->first].seed.sub;
	AUTO_STR safe = glob_literal(sub);
	AUTO_STR line = str_printf("\n/%s%s" ARTIFACT_FOLDER "/\n", safe, safe[0] != '\0' ? "/" : "");
	int fd = open_without_links(s->top, ".git/info/exclude", O_WRONLY | O_APPEND);

	if (fd < 0 || write(fd, line, strlen(line)) != (ssize_t)strlen(line))
		log_warn(
		    "worker.artifacts.not_excluded", "agent=%s reason=%s", s->agent_id, log_quote(strerror(errno)));
	if (fd >= 0)
		close(fd);
}

static int open_repo(struct session_job *j, const struct session_open *want)
{
	struct session *s = j->s;
	AUTO_FINI(checkout) c = {0};
	int rc = session_checkout(j, want, &c);

	if (rc != OK)
		return rc;
	str_set(&s->branch, c.branch);
	str_set(&s->start, c.start);
	str_set(&s->tip, c.tip);
	str_set(&s->base, c.base);
	free(s->repo_url);
	s->repo_url = repo_url_redact(want->repo_url);
	if (want->progress != NULL)
		want->progress(want->progress_ctx, "copying the workspace");
	rc = session_fail_machine(j, session_roots_raise(j, true));
	if (rc != OK)
		return rc;
	str_set(&s->top, tree_path(session_primary(s)->tree));
	free(s->git_dir);
	s->git_dir = str_printf("%s/.git", s->top);
	j->g.dir = s->top;
	rc = session_note_down(s, &j->fail->why);
	/* What the commit names may run, and be fetched from, is as foreign as what the agent does later. */
	if (rc == OK)
		rc = session_box_open(j);
	if (rc != OK)
		return session_fail_machine(j, rc);
	rc = session_fill(j, want);
	if (rc == OK)
		leave_artifacts_out(s);
	return rc;
}

static bool is_open_for(const struct session *s, const struct session_open *want)
{
	AUTO_STR url = repo_url_redact(want->repo_url);

	return s->agent_id[0] != '\0' && strcmp(s->agent_id, want->agent_id) == 0 && strcmp(s->repo_url, url) == 0;
}

static int open_new(struct session_job *j, const struct session_open *want)
{
	struct session *s = j->s;
	int rc = make_scratch(s, want->agent_id, &j->fail->why);

	if (rc != OK) {
		j->fail->machine = true;
		return rc;
	}
	str_set(&s->agent_id, want->agent_id);
	j->g.agent_id = s->agent_id;
	j->g.scratch_dir = s->scratch;
	if (want->repo_url[0] != '\0')
		rc = open_repo(j, want);
	else
		rc = session_fail_machine(j, session_roots_raise(j, false));
	return rc == OK ? make_root_folders(j) : rc;
}

static void session_drop(struct session *s);

/* A worker whose folders belong to no repository serves any: what is cloned there is its agents' business. */
static void leave_repo_out(struct session_job *j, struct session_open *want)
{
	AUTO_STR url = repo_url_redact(want->repo_url);

	session_warn(j->warnings,
	    "This worker has no repository of its own: %s was not cloned, and what is done here is not published.",
	    url);
	want->repo_url = want->starting_ref = want->branch = "";
	want->work_on_current_branch = false;
}

int session_open(struct session *s, const struct session_open *asked, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct session_failure *fail)
{
	struct session_open wish = *asked;
	const struct session_open *want = &wish;
	AUTO_JSON warnings = json_array();
	struct session_job j = {.s = s,
	    .g = {.dir = s->cfg.roots[0],
		.cancel_fd = cancel_fd,
		.deadline_mono_ms = deadline_mono_ms,
		.said = &fail->said},
	    .warnings = warnings,
	    .fail = fail};
	bool resumed = false;
	int rc = OK;

	OBJ_CHECK(s, SESSION_MAGIC);
	if (!text_is_token(want->agent_id, "-_.", 128) || want->agent_id[0] == '.')
		return why_set(&fail->why, ERR_INVALID, "the agent id is malformed");
	if (want->repo_url[0] != '\0' && session_serves_no_repo(s))
		leave_repo_out(&j, &wish);
	if (is_open_for(s, want)) {
		resumed = true;
		j.g.agent_id = s->agent_id;
		j.g.scratch_dir = s->scratch;
		j.g.dir = s->top != NULL ? s->top : s->paths[0];
	} else {
		session_close(s, NULL);
		session_choose_first(s, want->repo_url);
		rc = open_new(&j, want);
	}
	/* Last: it shows what is there by then. */
	if (rc == OK)
		rc = session_box_open(&j);
	if (rc != OK) {
		int interrupted = git_interrupted(&j.g, &fail->why);

		/* In a new one nothing of the agent ran; one that was there has its work. */
		if (resumed)
			session_close(s, &fail->kept);
		else
			session_drop(s);
		str_free(&j.status);
		return interrupted != OK ? interrupted : rc;
	}
	str_set(&s->claim_id, want->claim_id != NULL ? want->claim_id : "");
	*ret_info = describe_session(&j, resumed);
	str_free(&j.status);
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

bool session_has_background(struct session *s)
{
	bool any;

	pthread_mutex_lock(&s->lock);
	reap_locked(s);
	any = s->n_background > 0;
	pthread_mutex_unlock(&s->lock);
	return any;
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

static void session_end_programs(struct session *s)
{
	if (!session_box_close(s) && atomic_exchange(&s->started, false))
		kill_leftovers(s);
}

void session_attach(struct session *s, enum session_guest kind, void *what, void (*end)(void *what))
{
	ENSURE(s->guests[kind] == NULL);
	s->guests[kind] = what;
	s->guest_ends[kind] = end;
}

void *session_attached(const struct session *s, enum session_guest kind)
{
	return s->guests[kind];
}

/* Hooks have the last word while all of the session is there. */
static void end_attached(struct session *s)
{
	void *state = s->hooks_state;

	if (state != NULL)
		s->hooks_end(state);
	s->hooks = NULL;
	s->hooks_state = NULL;
	for (size_t i = 0; i < GUESTS; i++) {
		void *what = TAKE(s->guests[i]);

		if (what != NULL)
			s->guest_ends[i](what);
	}
}

/* Ends what runs, removes what is there, forgets whose it was. */
static void session_drop(struct session *s)
{
	end_attached(s);
	if (s->agent_id[0] == '\0' && s->agent_dir == NULL)
		return;
	session_end_programs(s);
	session_roots_drop(s);
	/* Where that fails the name is needed for the agent's next session, and the work is gone. */
	if (s->lost)
		IGNORE(session_set_aside(&s->cfg, s->agent_id, s->agent_dir));
	s->lost = false;
	session_remove_folder(s);
	rules_forget(s->rules);
	tools_remove(s);
	str_free(&s->agent_dir);
	str_free(&s->start);
	str_free(&s->top);
	str_free(&s->git_dir);
	str_set(&s->agent_id, "");
	str_set(&s->claim_id, "");
	str_set(&s->scratch, "");
	str_set(&s->repo_url, "");
	str_set(&s->branch, "");
	str_set(&s->base, "");
	str_set(&s->tip, "");
	atomic_store(&s->touched, false);
}

static void keep_before_the_end(struct session *s, json_t **ret_kept)
{
	AUTO_JSON warnings = json_array();
	struct session_failure fail = {0};
	struct session_job j = {.s = s,
	    .g = {.dir = s->top,
		.agent_id = s->agent_id,
		.scratch_dir = s->scratch,
		.cancel_fd = -1,
		.deadline_mono_ms = clock_mono_ms() + KEEP_LIMIT_MS},
	    .warnings = warnings,
	    .fail = &fail};
	json_t *kept = NULL;
	int rc = session_keep(&j, "the session ended before it was published", &kept);

	if (rc != OK) {
		/* Not "nothing is kept" either. */
		kept = json_object();
		s->lost = session_can_set_aside(rc);
		log_error("worker.keep.failed", "agent=%s branch=%s lost=%d reason=%s", s->agent_id,
		    log_quote(s->branch), !s->lost, log_quote(fail.why.text));
	} else if (kept != NULL)
		log_info("worker.kept", "agent=%s ref=%s commit=%s", s->agent_id,
		    json_string_value(json_object_get(kept, "ref")),
		    json_string_value(json_object_get(kept, "commit")));
	session_failure_fini(&fail);
	if (ret_kept != NULL)
		*ret_kept = kept;
	else
		json_decref(kept);
}

void session_close(struct session *s, json_t **ret_kept)
{
	OBJ_CHECK(s, SESSION_MAGIC);
	if (ret_kept != NULL)
		*ret_kept = NULL;
	if (s->agent_id[0] == '\0')
		return;
	end_attached(s);
	/* What still ran would change what is kept. */
	session_end_programs(s);
	if (s->branch[0] != '\0' && atomic_load(&s->touched))
		keep_before_the_end(s, ret_kept);
	session_drop(s);
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
	return s->hooks;
}

void session_set_hooks(struct session *s, const struct tool_hooks *hooks, void *state, void (*end)(void *state))
{
	ENSURE(s->hooks_state == NULL || s->hooks_state == state);
	s->hooks = hooks;
	s->hooks_state = state;
	s->hooks_end = end;
}

void *session_hooks(const struct session *s)
{
	return s->hooks_state;
}

const char *session_primary_root(const struct session *s)
{
	return s->paths[0];
}

size_t session_roots(const struct session *s, const char *const **ret_roots)
{
	*ret_roots = s->paths;
	return s->cfg.n_roots;
}

const char *session_program_mark(struct session *s)
{
	atomic_store(&s->started, true);
	return s->scratch;
}

void session_touch(struct session *s)
{
	atomic_store(&s->touched, true);
}

const char *session_home(const struct session *s)
{
	return s->cfg.home;
}

const char *session_scratch_dir(const struct session *s)
{
	return s->scratch;
}

struct rules *session_rules(const struct session *s)
{
	return s->rules;
}
