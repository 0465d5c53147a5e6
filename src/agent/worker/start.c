/* `agent worker start`: from the command line to a serving worker. */
#include "agent/box/box.h"
#include "agent/worker/exec.h"
#include "agent/worker/session.h"
#include "agent/worker/worker_priv.h"
#include "base/sanitized.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

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

/* The key is for the connection alone: not for children, the process list or whoever reads /proc. */
static void hide_key(int argc, char **argv, const char *key)
{
	AUTO_STR unused = str_dup(getenv("CURSOR_API_KEY")); /* a flag may have beaten it */

	hide(argc, argv, key);
	if (unused != NULL)
		hide(argc, argv, unused);
	unsetenv("CURSOR_API_KEY");
	if (!SANITIZED)
		prctl(PR_SET_DUMPABLE, 0);
}

/* What is registered, for people who wonder why no request comes. */
static void show_registration(const struct worker_roots *roots)
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

/* The lock is ours, so whoever started these is gone. */
static void clean_up_after_predecessor(const struct session_config *cfg)
{
	struct session_leftovers left;

	session_end_leftovers(cfg, &left);
	if (left.processes > 0 || left.folders > 0)
		log_warn("worker.leftovers", "processes=%zu folders=%zu kept=%zu ended=%s", left.processes,
		    left.folders, left.kept, left.alive ? "no" : "yes");
}

/* A remote that is a repository in a folder of this machine; NULL if it is none. */
static char *remote_folder(const char *url)
{
	const char *path = strncmp(url, "file:///", 8) == 0 ? url + 7 : url;
	char *real = path[0] == '/' ? realpath(path, NULL) : NULL;
	AUTO_STR bare = str_printf("%s/objects", real != NULL ? real : "");
	AUTO_STR checkout = str_printf("%s/.git", real != NULL ? real : "");

	if (real != NULL && access(bare, F_OK) != 0 && access(checkout, F_OK) != 0)
		str_free(&real);
	return real;
}

static int serve(
    const struct worker_options *o, const struct worker_roots *roots, struct identity *id, struct boxes *boxes)
{
	const char *paths[WORKER_MAX_DIRS], *shared[2 * WORKER_MAX_DIRS + 1];
	char *folders[WORKER_MAX_DIRS];
	struct session_config session_cfg = {.roots = paths,
	    .n_roots = roots->n,
	    .state_dir = id->state_dir,
	    .boxes = boxes,
	    .shared_home = o->shared_home,
	    .memory_bytes = o->session_memory_bytes,
	    .cpu_milli = o->session_cpu_milli,
	    .pids = o->session_pids,
	    .shared = shared};
	size_t n = 0;
	struct worker_config cfg = {.options = o, .roots = roots, .identity = id};
	int status;

	for (size_t i = 0; i < roots->n; i++) {
		paths[i] = roots->root[i].path;
		folders[i] = remote_folder(roots->root[i].remote_url);
		if (folders[i] != NULL)
			shared[n++] = folders[i];
	}
	for (size_t i = 0; i < o->n_shared; i++)
		shared[n++] = o->shared[i];
	shared[n] = NULL;
	clean_up_after_predecessor(&session_cfg);
	cfg.session = session_new(&session_cfg);
	status = worker_run(&cfg);
	session_free(&cfg.session);
	for (size_t i = 0; i < roots->n; i++)
		str_free(&folders[i]);
	return status;
}

/* What the user asked for by name is had, or the worker does not start. */
static int start_boxes(const struct worker_options *o, struct boxes **ret, struct why *why)
{
	bool limits = o->session_memory_bytes > 0 || o->session_cpu_milli > 0 || o->session_pids > 0;
	int rc = boxes_start(o->isolation, o->isolation_named, ret, why);

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

static int start_with_options(const struct worker_options *o, struct boxes *boxes)
{
	struct worker_roots roots;
	struct identity id = {.lock_fd = -1};
	struct why why = {""};
	AUTO_STR warning = NULL;
	int status, rc;

	if (o->verbose)
		log_set_level(LOG_DEBUG);
	rc = roots_read(o, &roots, &why);
	status = rc == OK ? EXIT_DONE : complain(&why, EXIT_USAGE);
	if (rc == OK) {
		rc = identity_take(o, &id, &warning, &why);
		if (rc != OK)
			status = complain(&why, rc == ERR_CONFLICT ? EXIT_LOCKED : EXIT_FAILED);
	}
	if (warning != NULL)
		log_warn("worker.data_dir", "%s", warning);
	if (o->verbose && rc == OK)
		show_registration(&roots);
	if (rc == OK)
		status = serve(o, &roots, &id, boxes);
	identity_fini(&id);
	roots_fini(&roots);
	return status;
}

int worker_main(int argc, char **argv)
{
	AUTO(boxes) boxes = NULL;
	struct worker_options o;
	struct why why = {""};
	int rc = worker_options_parse(argc, argv, &o, &why), status;

	if (rc != OK) {
		status = complain(&why, rc == ERR_UNAUTHORIZED ? EXIT_CREDENTIAL : EXIT_USAGE);
	} else if (o.command != WORKER_START) {
		worker_help(o.command == WORKER_HELP ? stdout : stderr);
		status = o.command == WORKER_HELP ? EXIT_DONE : EXIT_USAGE;
	} else {
		signal(SIGPIPE, SIG_IGN);
		id_init();
		http_client_init();
		hide_key(argc, argv, o.api_key);
		if (start_boxes(&o, &boxes, &why) != OK) {
			status = complain(&why, EXIT_FAILED);
		} else {
			tell_isolation(boxes);
			status = start_with_options(&o, boxes);
		}
	}
	worker_options_fini(&o);
	return status;
}
