/* `agent worker start`: from the command line to a serving worker. */
#include "agent/box/box.h"
#include "agent/session/exec.h"
#include "agent/worker/debug.h"
#include "agent/session/depot_lock.h"
#include "agent/session/health.h"
#include "agent/worker/prepare.h"
#include "agent/session/session.h"
#include "agent/session/tree.h"
#include "agent/worker/worker_priv.h"
#include "base/sanitized.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

/* A remote that is slower is asked on while the worker connects. */
#define FIRST_LOOK_MS 5000

extern char **environ;

/* White space around it was no part of it. */
static bool is_secret(const char *s, const char *secret)
{
	static const char space[] = " \t\r\n\v\f";
	size_t n = strlen(secret);

	s += strspn(s, space);
	return strncmp(s, secret, n) == 0 && s[n + strspn(s + n, space)] == '\0';
}

/* Overwrites the value of "NAME=value", or the whole word, if it is the secret. */
static void blot(char *s, const char *secret)
{
	char *equals = strchr(s, '=');

	if (equals != NULL && is_secret(equals + 1, secret))
		s = equals + 1;
	if (is_secret(s, secret))
		memset(s, '*', strlen(s));
}

static void hide(int argc, char **argv, const char *secret)
{
	exec_hide_secret(secret);
	for (int i = 0; i < argc; i++)
		blot(argv[i], secret);
	for (char **e = environ; *e != NULL; e++)
		blot(*e, secret);
}

/* The credential is for the connection alone: not for children, the process list or whoever reads /proc. */
static void hide_credential(int argc, char **argv, const struct worker_options *o)
{
	static const char *const names[] = {"CURSOR_API_KEY", "CURSOR_AUTH_TOKEN"};

	if (o->api_key != NULL)
		hide(argc, argv, o->api_key);
	if (o->auth_token != NULL)
		hide(argc, argv, o->auth_token);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		AUTO_STR unused = str_dup(getenv(names[i])); /* a flag may have beaten it */

		if (unused != NULL && unused[0] != '\0')
			hide(argc, argv, unused);
		unsetenv(names[i]);
	}
	if (!SANITIZED)
		prctl(PR_SET_DUMPABLE, 0);
}

/* What is registered, for people who wonder why no request comes. */
static void show_registration(const struct worker_options *o, const struct worker_roots *roots)
{
	AUTO_JSON urls = json_array();
	AUTO_STR text = NULL;
	AUTO_STR safe = NULL;

	for (size_t i = 0; i < roots->n; i++) {
		AUTO_STR repo = terminal_clean(roots->root[i].repo, TERMINAL_LINE);

		if (repo[0] != '\0')
			fprintf(stderr, "repo=%s\n", repo);
		if (roots->root[i].remote_url[0] != '\0')
			json_array_append_new(
			    urls, json_lossy(roots->root[i].remote_url, strlen(roots->root[i].remote_url)));
	}
	if (o->pool != NULL)
		fprintf(stderr, "pool=%s\n", o->pool);
	for (size_t i = 0; i < o->labels.n; i++) {
		AUTO_STR value = terminal_clean(o->labels.v[i].value, TERMINAL_LINE);

		fprintf(stderr, "%s=%s\n", o->labels.v[i].key, value);
	}
	fprintf(stderr, "workspacePaths: [");
	for (size_t i = 0; i < roots->n; i++) {
		const char *slash = strrchr(roots->root[i].path, '/');
		AUTO_STR name = terminal_clean(slash != NULL ? slash + 1 : roots->root[i].path, TERMINAL_LINE);

		fprintf(stderr, "%s%s", i > 0 ? ", " : "", name);
	}
	text = json_text(urls);
	safe = terminal_clean(text, TERMINAL_JSON);
	fprintf(stderr, "]\nx-repository-urls: %s\n", safe);
}

static int complain(const struct why *why, int status)
{
	AUTO_STR clean = terminal_clean(why->text, TERMINAL_LINE);

	fprintf(stderr, "error: %s\n", clean);
	return status;
}

/* What the user asked for by name is had, or the worker does not start. */
static int start_boxes(const struct worker_options *o, struct boxes **ret, struct why *why)
{
	bool limits = o->session_memory_bytes > 0 || o->session_cpu_milli > 0 || o->session_pids > 0;
	AUTO_STR trial = geteuid() != 0 ? worker_scratch_folder(o) : NULL;
	int rc = boxes_start(o->isolation, o->isolation_named, trial, ret, why);

	if (trial != NULL)
		tree_delete(trial);
	if (rc == OK && limits)
		rc = boxes_may_limit(*ret, why);
	if (rc == OK && o->home_named && !o->shared_home && boxes_level(*ret) < BOX_NAMESPACE)
		rc = why_set(why, ERR_DENIED, "a home of the session's own needs isolation by namespaces%s%s",
		    boxes_missing(*ret)[0] != '\0' ? ": " : "", boxes_missing(*ret));
	return rc;
}

static void tell_isolation(const struct boxes *b)
{
	if (boxes_level(b) < BOX_NAMESPACE)
		log_warn("worker.isolation", "level=%s reason=\"%s\"", box_level_name(boxes_level(b)),
		    boxes_missing(b)[0] != '\0' ? boxes_missing(b) : "it was asked for");
}

static void tell_findings(const struct health_report *r)
{
	for (size_t i = 0; i < r->n; i++) {
		AUTO_STR clean = terminal_clean(r->v[i].detail, TERMINAL_LINE);

		if (r->v[i].grade == HEALTH_FATAL)
			fprintf(stderr, "error: %s\n", clean);
		else if (r->v[i].grade == HEALTH_UNFIT)
			fprintf(stderr, "warning: this worker takes no work until it can: %s\n", clean);
		else if (r->v[i].grade == HEALTH_WARN)
			fprintf(stderr, "warning: %s\n", clean);
	}
}

/* A personal machine serves several agents at once: its first place is made now, because it shows whether the folders
 * can be used, the others when they are needed. */
static void serve_several(struct worker_config *cfg, struct prepared *p, struct depot_locks *locks)
{
	if (cfg->options->pool != NULL)
		return;
	p->session.place = 1;
	p->session.locks = locks;
	cfg->sessions = &p->session;
	cfg->max_sessions = WORKER_MAX_SESSIONS_PERSONAL;
}

/* A session does not change the scripts that it is judged by. A folder that comes later would not be in its box. */
static void list_guarded(const struct hook_settings *h, const char *ret[3])
{
	size_t n = 0;

	if (h->team_dir != NULL && folder_make(h->team_dir, NULL) == OK)
		ret[n++] = h->team_dir;
	if (h->enterprise_dir != NULL)
		ret[n] = h->enterprise_dir;
}

/* A worker that has all it needs from the start-up, until it ends. */
static int serve_prepared(const struct worker_options *o, const struct worker_roots *roots, struct identity *id,
    struct worker_figures *figures, struct prepared *p)
{
	struct worker_config cfg = {.options = o,
	    .roots = roots,
	    .identity = id,
	    .isolation = box_level_name(boxes_level(p->session.boxes)),
	    .figures = figures};
	struct health_report report = {0};
	AUTO(health) health = NULL;
	struct depot_locks *locks = depot_locks_new();
	AUTO_STR clones = NULL;
	AUTO_STR team_hooks = NULL;
	AUTO_STR transcripts = NULL;
	const char *guarded[3] = {NULL};
	const struct health_finding *worst;
	int status;

	serve_several(&cfg, p, locks);
	team_hooks = id->data_dir != NULL ? str_printf("%s/hooks", id->data_dir) : NULL;
	transcripts = id->data_dir != NULL ? str_printf("%s/transcripts", id->data_dir) : NULL;
	cfg.hooks = option_hook_settings(o, team_hooks, transcripts);
	list_guarded(&cfg.hooks, guarded);
	p->session.guarded = guarded;
	cfg.takes_env = o->sync_secrets;
	if (o->clone_git_repos) {
		cfg.sessions = &p->session;
		cfg.clones_dir = clones = str_printf("%s/clones", id->data_dir);
	}
	prepared_end_leftovers(p);
	cfg.session = session_new(&p->session);
	health = health_new(cfg.session);
	health_look(health, -1, clock_mono_ms() + FIRST_LOOK_MS, &report);
	worst = health_worst(&report, HEALTH_WARN);
	tell_findings(&report);
	if (worst != NULL && worst->grade == HEALTH_FATAL) {
		status = EXIT_FAILED;
	} else {
		cfg.health = health;
		cfg.unfit_code = worst != NULL ? worst->code : NULL;
		cfg.unfit_reason = worst != NULL ? worst->detail : NULL;
		status = worker_run(&cfg);
	}
	session_free(&cfg.session);
	depot_locks_free(&locks);
	health_report_fini(&report);
	return status;
}

static int start_with_identity(const struct worker_options *o, const struct worker_roots *roots, struct boxes *boxes)
{
	struct identity id = {.lock_fd = -1};
	AUTO_FINI(prepared) p = {.n_locks = 0};
	AUTO_STR warning = NULL;
	struct worker_figures figures = {.phase = PHASE_STARTING};
	AUTO(manage) manage = NULL;
	struct why why = {""};
	int status, rc = identity_take(o, &id, &warning, &why);

	if (warning != NULL)
		log_warn("worker.data_dir", "%s", warning);
	if (rc == OK)
		rc = prepare(o, roots, &id, boxes, &p, &why);
	/* It answers from here on, also while the worker looks whether it can work. */
	if (rc == OK && o->management_host != NULL)
		rc = manage_start(o->management_host, o->management_port, &figures, &manage, &why);
	if (rc == OK)
		status = serve_prepared(o, roots, &id, &figures, &p);
	else
		status = complain(&why, rc == ERR_CONFLICT  ? EXIT_LOCKED
					: rc == ERR_INVALID ? EXIT_USAGE
							    : EXIT_FAILED);
	identity_fini(&id);
	return status;
}

static int start_with_options(const struct worker_options *o, struct boxes *boxes)
{
	struct worker_roots roots;
	struct why why = {""};
	int status, rc;

	if (o->verbose)
		log_set_level(LOG_DEBUG);
	if (o->ignored_pool != NULL)
		log_debug("worker.pool.ignored", "reason=\"CURSOR_WORKER_POOL_NAME counts with --pool only\" pool=%s",
		    log_quote(o->ignored_pool));
	if (boxes_no_mounts(boxes)[0] != '\0')
		log_debug("worker.copies", "reason=%s", log_quote(boxes_no_mounts(boxes)));
	rc = roots_read(o, &roots, &why);
	if (rc != OK) {
		status = complain(&why, rc == ERR_NOT_FOUND ? EXIT_USAGE : EXIT_FAILED);
	} else {
		if (o->verbose)
			show_registration(o, &roots);
		status = start_with_identity(o, &roots, boxes);
	}
	roots_fini(&roots);
	return status;
}

/* In a process of its own, which leaves no thread behind: boxes are started before there are any. */
static void worker_debug_apart(const struct worker_options *o)
{
	pid_t pid = fork();

	if (pid == 0) {
		int status = worker_debug(o);

		fflush(stdout);
		_exit(status);
	}
	while (pid > 0 && waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		;
}

int worker_main(int argc, char **argv)
{
	AUTO(boxes) boxes = NULL;
	struct worker_options o;
	struct why why = {""};
	int rc = worker_options_parse(argc, argv, &o, &why), status;

	if (rc != OK) {
		status = complain(&why, rc == ERR_UNAUTHORIZED ? EXIT_CREDENTIAL : EXIT_USAGE);
	} else if (o.command == WORKER_HELP || o.command == WORKER_NONE) {
		worker_help(o.command == WORKER_HELP ? stdout : stderr);
		status = o.command == WORKER_HELP ? EXIT_DONE : EXIT_USAGE;
	} else {
		signal(SIGPIPE, SIG_IGN);
		id_init();
		http_client_init();
		hide_credential(argc, argv, &o);
		if (o.debug && o.command == WORKER_START)
			worker_debug_apart(&o);
		if (o.command == WORKER_DEBUG) {
			status = worker_debug(&o);
		} else if (start_boxes(&o, &boxes, &why) != OK) {
			status = complain(&why, EXIT_FAILED);
		} else {
			tell_isolation(boxes);
			status = start_with_options(&o, boxes);
		}
	}
	worker_options_fini(&o);
	return status;
}
