#include "agent/worker/roots.h"
#include "agent/worker/exec.h"
#include "base/repo_url.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

#define GIT_LIMIT_MS 20000
#define MAX_URL 4096

/* The trimmed output of `git -C dir …`; NULL if it fails. *ret_rc is exec_run's. */
static char *ask_git(const char *dir, const char *const *args, int *ret_rc)
{
	const char *argv[8] = {"git", "-C", dir};
	struct exec_result res;
	char *out = NULL;

	for (size_t i = 0; i < 4 && args[i] != NULL; i++)
		argv[3 + i] = args[i];
	struct exec_spec spec = EXEC_SPEC(.argv = argv, .call_id = "start");

	spec.deadline_mono_ms = clock_mono_ms() + GIT_LIMIT_MS;
	*ret_rc = exec_run(&spec, &res, NULL);
	if (*ret_rc != OK)
		return NULL;
	if (res.exit_code == 0 && !res.timed_out)
		out = text_trim(res.out);
	exec_result_fini(&res);
	return out;
}

static bool looks_like_checkout(const char *dir)
{
	AUTO_STR git = str_printf("%s/.git", dir);

	return access(git, F_OK) == 0;
}

static int read_root(const char *dir, struct worker_root *r, struct why *why)
{
	static const char *const inside[] = {"rev-parse", "--is-inside-work-tree", NULL};
	static const char *const remote[] = {"remote", "get-url", "origin", NULL};
	AUTO_STR answer = NULL;
	AUTO_STR url = NULL;
	int rc;

	r->path = str_dup(dir);
	answer = ask_git(dir, inside, &rc);
	if (rc != OK && looks_like_checkout(dir))
		return why_set(why, ERR_NOT_FOUND, "%.300s is a git checkout, but git cannot be started", dir);
	if (answer != NULL && answer[0] == 't')
		url = ask_git(dir, remote, &rc);
	if (url != NULL && url[0] != '\0' && strlen(url) <= MAX_URL) {
		r->repo = repo_url_label(url, &r->host);
		r->remote_url = repo_url_redact(url);
	}
	if (r->remote_url == NULL)
		r->remote_url = str_dup("");
	if (r->host == NULL)
		r->host = str_dup("");
	if (r->repo == NULL)
		r->repo = str_dup("");
	return OK;
}

int roots_read(const struct worker_options *o, struct worker_roots *ret, struct why *why)
{
	int rc = OK;

	*ret = (struct worker_roots){0};
	for (size_t i = 0; i < o->n_dirs && rc == OK; i++)
		rc = read_root(o->dirs[i], &ret->root[ret->n++], why);
	return rc;
}

void roots_fini(struct worker_roots *r)
{
	for (size_t i = 0; i < r->n; i++) {
		str_free(&r->root[i].path);
		str_free(&r->root[i].remote_url);
		str_free(&r->root[i].host);
		str_free(&r->root[i].repo);
	}
	r->n = 0;
}
