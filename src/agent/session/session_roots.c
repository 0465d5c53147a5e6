/* The roots of a session: private copies of what the worker was given. */
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include <errno.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_at_or_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && (path[n] == '\0' || path[n] == '/' || n == 1);
}

/* The copy of a folder holds everything below it. */
static void find_holder(struct session *s, size_t i)
{
	size_t best = i;

	for (size_t k = 0; k < s->cfg.n_roots; k++) {
		const char *top = s->roots[k].seed.top, *old = s->roots[best].seed.top;
		size_t n = strlen(top), len = strlen(old);

		if (is_at_or_below(s->roots[i].seed.top, top) && (n < len || (n == len && k < best)))
			best = k;
	}
	s->roots[i].holder = best;
}

static int make_folder(const char *path)
{
	return mkdir(path, 0700) == 0 || errno == EEXIST ? OK : err_from_errno(errno);
}

/* With the restrictions that the mount has already: a worker in a container may not lift them. */
/* While a session covers the seed's path, the seed itself is found under another one. Only this process sees it, so it
 * is gone with it. */
static void give_second_name(struct session *s, size_t i)
{
	struct session_root *r = &s->roots[i];
	AUTO_STR seeds = str_printf("%s/.seeds", s->cfg.state_dir);
	/* Each session its own, to be taken away with it. */
	AUTO_STR path =
	    session_has_company(s) ? str_printf("%s/%u-%zu", seeds, s->cfg.place, i) : str_printf("%s/%zu", seeds, i);
	AUTO_STR real = NULL;

	if (make_folder(s->cfg.state_dir) != OK || make_folder(seeds) != OK || make_folder(path) != OK)
		return;
	real = realpath(path, NULL);
	if (real == NULL || mount(r->seed.top, real, NULL, MS_BIND | MS_REC, NULL) != 0)
		return;
	/* What covers the seed's path shall not appear here too. And nobody writes it by this name, git included, which
	 * gives a pack a new time when it is told to store what the pack has. */
	if (mount(NULL, real, NULL, MS_PRIVATE | MS_REC, NULL) == 0 && box_make_read_only(real) == 0)
		seed_move(&r->seed, real);
	else
		IGNORE(umount2(real, MNT_DETACH));
}

void session_roots_read(struct session *s)
{
	s->roots = mem_zalloc(s->cfg.n_roots * sizeof *s->roots);
	s->paths = mem_zalloc(s->cfg.n_roots * sizeof *s->paths);
	for (size_t i = 0; i < s->cfg.n_roots; i++) {
		struct session_root *r = &s->roots[i];

		if (seed_read(s->cfg.roots[i], &r->seed, &r->unusable) == OK)
			r->unusable.text[0] = '\0';
		s->paths[session_place_of(s, i)] = s->cfg.roots[i];
	}
	for (size_t i = 0; i < s->cfg.n_roots; i++)
		find_holder(s, i);
	for (size_t i = 0; session_may_mount(s) && i < s->cfg.n_roots; i++)
		if (s->roots[i].holder == i)
			give_second_name(s, i);
}

void session_choose_first(struct session *s, const char *repo_url)
{
	s->first = 0;
	for (size_t i = s->cfg.n_roots; repo_url[0] != '\0' && i-- > 0;)
		if (s->roots[i].seed.url != NULL && repo_url_same(s->roots[i].seed.url, repo_url))
			s->first = i;
	for (size_t i = 0; i < s->cfg.n_roots; i++)
		s->paths[session_place_of(s, i)] = s->cfg.roots[i];
}

bool session_serves_no_repo(const struct session *s)
{
	for (size_t i = 0; i < s->cfg.n_roots; i++)
		if (s->roots[i].seed.is_repo || s->roots[i].unusable.text[0] != '\0')
			return false;
	return true;
}

void session_roots_drop(struct session *s)
{
	for (size_t i = s->cfg.n_roots; i-- > 0;) {
		struct session_root *r = &s->roots[i];

		tree_free(&r->tree);
		depot_fini(&r->depot);
		str_free(&r->path);
		s->paths[session_place_of(s, i)] = s->cfg.roots[i];
	}
}

void session_roots_fini(struct session *s)
{
	session_roots_drop(s);
	for (size_t i = 0; i < s->cfg.n_roots; i++) {
		if (session_may_mount(s) && s->roots[i].holder == i &&
		    strcmp(s->roots[i].seed.source, s->roots[i].seed.top) != 0)
			IGNORE(umount2(s->roots[i].seed.source, MNT_DETACH));
		seed_fini(&s->roots[i].seed);
	}
	free(s->roots);
	free(s->paths);
}

/* What git ignores in the seed: caches, which a copy may do without if they are large. NULL-terminated. */
static char **list_ignored(const struct session_job *j, const struct seed *seed)
{
	struct git g = j->g;
	AUTO_FINI(git_out) o = {0};
	char **list = NULL;
	size_t n = 0, cap = 0;

	g.dir = g.work_tree = seed->source;
	g.git_dir = seed->git_dir;
	list = mem_grow(list, &cap, 1, sizeof *list);
	if (git_run_bytes(&g, GIT_ARGS("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "--directory"),
		&o, NULL) == OK &&
	    o.status == 0)
		for (size_t at = 0; at < o.out_len; at += strlen(o.out + at) + 1) {
			size_t len = strlen(o.out + at);

			list = mem_grow(list, &cap, n + 2, sizeof *list);
			list[n++] = str_ndup(o.out + at, len > 0 && o.out[at + len - 1] == '/' ? len - 1 : len);
		}
	list[n] = NULL;
	return list;
}

static void free_list(char **list)
{
	for (size_t i = 0; list != NULL && list[i] != NULL; i++)
		free(list[i]);
	free(list);
}

json_t *session_no_longer_ignored(const struct session_job *j)
{
	const struct seed *seed = &session_primary(j->s)->seed;
	char **ignored = list_ignored(j, seed);
	json_t *list = json_array();

	for (size_t i = 0; ignored[i] != NULL; i++) {
		struct git g = session_git_inside(j);
		AUTO_STR path = str_printf("%s/%s", j->s->top, ignored[i]);
		struct stat st;

		g.said = NULL;
		if (lstat(path, &st) == 0 && !git_says_yes(&g, GIT_ARGS("check-ignore", "-q", "--", ignored[i])) &&
		    !git_says_yes(&g, GIT_ARGS("ls-files", "--error-unmatch", "--", ignored[i])))
			json_array_append_new(list, json_lossy(ignored[i], strlen(ignored[i])));
	}
	free_list(ignored);
	return list;
}

/* A checkout that stays where the seed is: of a root that no branch is made in. */
static int stage_like_seed(struct session_job *j, struct session_root *r, const char *git_dir)
{
	struct git g = j->g;
	AUTO_STR head = seed_head(&r->seed);
	AUTO_STR branch = NULL;

	g.dir = g.work_tree = r->seed.source;
	g.git_dir = r->seed.git_dir;
	if (git_must(&g, GIT_ARGS("symbolic-ref", "-q", "--short", "HEAD"), &branch, NULL) != OK || branch[0] == '\0')
		str_set(&branch, "detached");
	return depot_make_checkout(
	    &r->depot, &r->seed, git_dir, &(struct depot_checkout){.branch = branch, .tip = head}, &j->fail->why);
}

static int stage_git(struct session_job *j, size_t i, bool repo)
{
	struct session_root *r = &j->s->roots[i];
	AUTO_STR git_dir = str_printf("%s/.git", tree_stage(r->tree));

	if (&j->s->roots[i] != session_primary(j->s) || !repo)
		return stage_like_seed(j, r, git_dir);
	/* A commit that was kept for the agent comes later, and its branch with it. */
	return depot_make_checkout(&r->depot, &r->seed, git_dir,
	    &(struct depot_checkout){
		.branch = j->s->branch, .tip = j->s->has_kept ? "" : j->s->tip, .start = j->s->start},
	    &j->fail->why);
}

/* Its folders, with its git directory where it is a checkout; nothing is to be seen yet. */
static int make_holder(struct session_job *j, size_t i, bool repo)
{
	struct session *s = j->s;
	struct session_root *r = &s->roots[i];
	AUTO_STR dir = str_printf("%s/root-%zu", s->agent_dir, i);
	bool cover = session_may_mount(s) && !session_has_company(s) && strcmp(r->seed.source, r->seed.top) != 0;
	struct tree_config cfg = {.seed = r->seed.source,
	    .dir = dir,
	    .at = cover ? r->seed.top : NULL,
	    .may_mount = session_may_mount(s),
	    .leave_out = r->seed.is_repo ? ".git" : NULL};
	char **ignored = r->seed.is_repo && !cover ? list_ignored(j, &r->seed) : NULL;
	int rc;

	cfg.dear = (const char *const *)ignored;
	rc = tree_new(&cfg, &r->tree, &j->fail->why);
	if (rc == OK && r->seed.is_repo)
		rc = stage_git(j, i, repo);
	free_list(ignored);
	return rc;
}

static int show_holder(struct session_job *j, size_t i)
{
	struct session_root *r = &j->s->roots[i];
	int rc = tree_raise(r->tree, j->g.cancel_fd, &j->fail->why);

	if (rc == OK && tree_cost(r->tree)->dear_left_out)
		session_warn(j->warnings,
		    "Ignored folders of %s are large and were not copied into the session; this worker's machine has "
		    "neither "
		    "overlays nor reflinks.",
		    r->seed.top);
	return rc;
}

/* A root inside a checkout may be an untracked folder of it, which a clean checkout does not have. */
static void set_path(struct session *s, size_t i)
{
	struct session_root *r = &s->roots[i], *h = &s->roots[r->holder];
	const char *rest = r->seed.root + strlen(h->seed.top);

	r->path = str_printf("%s%s", tree_path(h->tree), rest);
	s->paths[session_place_of(s, i)] = r->path;
}

/* The first root's depot is open already if it has a repository to serve. */
static int raise_with_depot(struct session_job *j, size_t i, bool repo)
{
	struct session *s = j->s;
	struct session_root *r = &s->roots[i];
	int lock = -1, rc = OK;

	if (r->seed.is_repo)
		rc = session_lock_depot(j, r, &lock);
	if (rc == OK && r->seed.is_repo && r->depot.dir == NULL)
		rc = depot_open(s->repos_dir, &r->seed, &r->depot, &j->fail->why);
	if (rc == OK)
		rc = make_holder(j, i, repo);
	depot_unlock(&lock);
	return rc == OK ? show_holder(j, i) : rc;
}

int session_roots_raise(struct session_job *j, bool repo)
{
	struct session *s = j->s;
	int rc = OK;

	for (size_t i = 0; rc == OK && i < s->cfg.n_roots; i++) {
		struct session_root *r = &s->roots[i];

		if (r->holder != i)
			continue;
		if (r->unusable.text[0] != '\0')
			return why_set(&j->fail->why, ERR_IO, "%s", r->unusable.text);
		/* A copy of it would hold itself. */
		if (is_at_or_below(s->agent_dir, r->seed.top))
			return why_set(&j->fail->why, ERR_IO,
			    "the worker's data folder lies inside '%.300s', which it was given: give it another "
			    "--data-dir",
			    r->seed.top);
		rc = raise_with_depot(j, i, repo);
	}
	for (size_t i = 0; rc == OK && i < s->cfg.n_roots; i++)
		set_path(s, i);
	return rc;
}
