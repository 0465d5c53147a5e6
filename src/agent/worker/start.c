/* `agent worker start`: from the command line to a serving worker. */
#include "agent/worker/exec.h"
#include "agent/worker/session.h"
#include "agent/worker/worker_priv.h"
#include "base/sanitized.h"
#include "base/id.h"
#include "base/json.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/http_client.h"
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>

extern char **environ;

/* Overwrites the value of "NAME=value", or the whole word, if it is the secret. */
static void blot(char *s, const char *secret)
{
	char *equals = strchr(s, '=');

	if (equals != NULL && strcmp(equals + 1, secret) == 0)
		s = equals + 1;
	if (strcmp(s, secret) == 0)
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

	for (size_t i = 0; i < roots->n; i++) {
		if (roots->root[i].repo[0] != '\0')
			fprintf(stderr, "repo=%s\n", roots->root[i].repo);
		if (roots->root[i].remote_url[0] != '\0')
			json_array_append_new(
			    urls, json_lossy(roots->root[i].remote_url, strlen(roots->root[i].remote_url)));
	}
	fprintf(stderr, "workspacePaths: [");
	for (size_t i = 0; i < roots->n; i++) {
		const char *slash = strrchr(roots->root[i].path, '/');

		fprintf(stderr, "%s%s", i > 0 ? ", " : "", slash != NULL ? slash + 1 : roots->root[i].path);
	}
	text = json_text(urls);
	fprintf(stderr, "]\nx-repository-urls: %s\n", text);
}

static int complain(const struct why *why, int status)
{
	fprintf(stderr, "error: %s\n", why->text);
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

static int serve(const struct worker_options *o, const struct worker_roots *roots, struct identity *id)
{
	const char *paths[WORKER_MAX_DIRS];
	struct session_config session_cfg = {.roots = paths, .n_roots = roots->n, .state_dir = id->state_dir};
	struct worker_config cfg = {.options = o, .roots = roots, .identity = id};
	int status;

	for (size_t i = 0; i < roots->n; i++)
		paths[i] = roots->root[i].path;
	clean_up_after_predecessor(&session_cfg);
	cfg.session = session_new(&session_cfg);
	status = worker_run(&cfg);
	session_free(&cfg.session);
	return status;
}

static int start_with_options(const struct worker_options *o)
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
			status = complain(&why, rc == ERR_CONFLICT ? EXIT_LOCKED : EXIT_RUNTIME);
	}
	if (warning != NULL)
		log_warn("worker.data_dir", "%s", warning);
	if (o->verbose && rc == OK)
		show_registration(&roots);
	if (rc == OK)
		status = serve(o, &roots, &id);
	identity_fini(&id);
	roots_fini(&roots);
	return status;
}

int worker_main(int argc, char **argv)
{
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
		status = start_with_options(&o);
	}
	worker_options_fini(&o);
	return status;
}
