/* Which options go together, what the machine must have for them, and what is known but not built in. */
#include "agent/worker/options_priv.h"
#include "agent/worker/roots.h"
#include "base/mem.h"
#include <string.h>
#include <unistd.h>

static bool has_git(void)
{
	AUTO_STR path = str_dup(option_env("PATH"));
	char *save, *dir = path != NULL ? strtok_r(path, ":", &save) : NULL;

	for (; dir != NULL; dir = strtok_r(NULL, ":", &save)) {
		AUTO_STR git = str_printf("%s/git", dir);

		if (access(git, X_OK) == 0)
			return true;
	}
	return false;
}

/* Whose checkout the folders are says git. */
static int check_no_repo(const struct worker_options *o, struct why *why)
{
	struct worker_roots roots;
	struct why inner = {""};
	int rc = roots_read(o, &roots, &inner);

	if (rc != OK)
		rc = why_set(why, ERR_INVALID, "--clone-git-repos: %s", inner.text);
	for (size_t i = 0; i < roots.n && rc == OK; i++)
		if (roots.root[i].repo[0] != '\0')
			rc = why_set(why, ERR_INVALID,
			    "--clone-git-repos needs folders without a repository of their own, but %.200s is a "
			    "checkout of "
			    "%.200s",
			    roots.root[i].path, roots.root[i].repo);
	roots_fini(&roots);
	return rc;
}

int option_check_clone(const struct given_options *g, struct worker_options *o, struct why *why)
{
	if (!g->clone_git_repos)
		return OK;
	if (o->pool == NULL)
		return why_set(why, ERR_INVALID, "--clone-git-repos needs --pool");
	if (strcmp(o->pool, "default") == 0)
		return why_set(
		    why, ERR_INVALID, "--clone-git-repos needs a named pool: the pool 'default' serves repositories");
	if (g->name != NULL)
		return why_set(
		    why, ERR_INVALID, "--clone-git-repos does not go with --name: such workers are not bound to");
	if (!has_git())
		return why_set(why, ERR_INVALID, "--clone-git-repos needs git, which is not on PATH");
	return check_no_repo(o, why);
}

int option_check_pool_only(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const struct {
		bool given;
		const char *name;
	} rows[] = {{g->mint_github_token, "mint-github-token"}, {g->sync_secrets, "sync-dashboard-secrets"},
	    {g->on_session_start != NULL, "on-session-start"}, {g->on_session_end != NULL, "on-session-end"}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].given && o->pool == NULL)
			return why_set(why, ERR_INVALID, "--%s needs --pool", rows[i].name);
	return OK;
}

int option_check_system(const struct given_options *g, struct worker_options *o, struct why *why)
{
#ifdef __linux__
	return OK;
#else
	if (g->display != NULL || g->share_desktop)
		return why_set(
		    why, ERR_INVALID, "--%s is for Linux only", g->display != NULL ? "display" : "share-desktop");
	return OK;
#endif
}

/* Known, so that a mistake in the line is found first, and refused rather than taken and forgotten. */
int option_refuse_unbuilt(const struct given_options *g, struct worker_options *o, struct why *why)
{
	const struct {
		bool given;
		const char *name;
	} rows[] = {{g->mint_github_token, "mint-github-token"}, {g->identity_socket, "identity-socket"},
	    {g->computer_use, "computer-use"}, {g->display != NULL, "display"}, {g->share_desktop, "share-desktop"}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (rows[i].given)
			return why_set(
			    why, ERR_INVALID, "--%s is not built in: start the worker without it", rows[i].name);
	return OK;
}

/* The folder or one above it has a .git. */
static bool is_checkout(const char *dir)
{
	AUTO_STR at = str_dup(dir);

	for (char *slash; at[0] != '\0'; *slash = '\0') {
		AUTO_STR git = str_printf("%s/.git", at);

		if (access(git, F_OK) == 0)
			return true;
		slash = strrchr(at, '/');
		if (slash == NULL)
			break;
	}
	return false;
}

int option_check_git(const struct given_options *g, struct worker_options *o, struct why *why)
{
	for (size_t i = 0; i < o->n_dirs; i++)
		if (is_checkout(o->dirs[i]) && !has_git())
			return why_set(why, ERR_INVALID,
			    "git is not on PATH, and %.300s is a git checkout: install git", o->dirs[i]);
	return OK;
}
