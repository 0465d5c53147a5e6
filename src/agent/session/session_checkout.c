/* Which commit a session begins with. Everything is asked of the true remote, through the depot; what is fetched stays
 * there for the next session. */
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include <string.h>

/* What the remote has of the names that we care for. */
struct remote_view {
	char *default_branch; /* NULL: unknown */
	char *head; /* its commit, or NULL */
	char *branch; /* commit of the agent's branch there, or NULL */
	char *start_head; /* commit of the start as a branch, or NULL */
	bool start_tag;
	bool prefix_taken; /* a branch whose name is a folder of ours */
	bool empty; /* no refs at all */
};

struct checkout_job {
	struct session_job *j;
	const struct session_open *want;
	struct git g; /* in the depot's view of origin */
	struct git own; /* where everything is seen, also what came from sessions */
	char *start; /* the starting ref without what stands before a name; "" is the default branch */
	bool start_is_tag, start_is_head; /* it was written as one */
	char *branch;
	struct remote_view r;
};

static void checkout_job_fini(struct checkout_job *c)
{
	str_free(&c->start);
	str_free(&c->branch);
	str_free(&c->r.default_branch);
	str_free(&c->r.head);
	str_free(&c->r.branch);
	str_free(&c->r.start_head);
}

void checkout_fini(struct checkout *c)
{
	str_free(&c->branch);
	str_free(&c->start);
	str_free(&c->tip);
	str_free(&c->base);
}

#define WHY(c) (&(c)->j->fail->why)

/* What people write: main, refs/heads/main, origin/main, refs/remotes/origin/main, refs/tags/v1, tags/v1, HEAD. A
 * branch that is really called origin/main is found all the same: see note_ref. */
static void read_start(struct checkout_job *c)
{
	const char *s = c->want->starting_ref;

	if (strcmp(s, "HEAD") == 0 || strcmp(s, "origin/HEAD") == 0 || strcmp(s, "refs/remotes/origin/HEAD") == 0)
		s = "";
	else if (text_has_prefix(s, "refs/heads/"))
		c->start_is_head = (s += 11) != NULL;
	else if (text_has_prefix(s, "refs/remotes/origin/"))
		c->start_is_head = (s += 20) != NULL;
	else if (text_has_prefix(s, "refs/tags/"))
		c->start_is_tag = (s += 10) != NULL;
	c->start = str_dup(s);
}

static int check_names(struct checkout_job *c)
{
	if (c->start[0] != '\0' && !git_ref_is_sound(c->start))
		return why_set(WHY(c), ERR_INVALID, "'%.100s' is not a name that a branch or commit can have",
		    c->want->starting_ref);
	if (!c->want->work_on_current_branch && !git_ref_is_sound(c->want->branch))
		return why_set(WHY(c), ERR_INVALID, "'%.100s' is not a name that a branch can have", c->want->branch);
	return OK;
}

/* "SHA\tREF" or "ref: REF\tHEAD". */
static void note_ref(struct checkout_job *c, const char *sha, const char *ref)
{
	const char *branch = text_has_prefix(ref, "refs/heads/") ? ref + 11 : NULL;
	size_t n;

	if (text_has_prefix(sha, "ref: refs/heads/")) {
		if (strcmp(ref, "HEAD") == 0)
			str_set(&c->r.default_branch, sha + 16);
		return;
	}
	c->r.empty = false;
	if (strcmp(ref, "HEAD") == 0)
		str_set(&c->r.head, sha);
	if (branch != NULL && strcmp(branch, c->want->branch) == 0)
		str_set(&c->r.branch, sha);
	if (branch != NULL && !c->start_is_tag && strcmp(branch, c->start) == 0)
		str_set(&c->r.start_head, sha);
	if (!c->start_is_head && text_has_prefix(ref, "refs/tags/") && strcmp(ref + 10, c->start) == 0)
		c->r.start_tag = true;
	n = branch != NULL ? strlen(branch) : 0;
	if (n > 0 && strncmp(branch, c->want->branch, n) == 0 && c->want->branch[n] == '/')
		c->r.prefix_taken = true;
}

static void note_refs(struct checkout_job *c, char *out)
{
	for (char *line = out, *next; line != NULL && *line != '\0'; line = next) {
		char *tab = strchr(line, '\t');

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		if (tab == NULL)
			continue;
		*tab = '\0';
		note_ref(c, line, tab + 1);
	}
}

/* One question for all names: the branch, the start as a branch and as a tag, and the folders of the branch's name. */
static int ask_remote(struct checkout_job *c)
{
	const char *args[24] = {"ls-remote", "--symref", "origin", "HEAD"};
	char *named[16];
	size_t n = 4, k = 0;
	AUTO_STR out = NULL;
	int rc;

	named[k++] = str_printf("refs/heads/%s", c->want->branch);
	named[k++] = str_printf("refs/heads/%s", c->start);
	named[k++] = str_printf("refs/tags/%s", c->start);
	for (const char *slash = c->want->branch; k < ARRAY_LEN(named) && (slash = strchr(slash, '/')) != NULL; slash++)
		named[k++] = str_printf("refs/heads/%.*s", (int)(slash - c->want->branch), c->want->branch);
	for (size_t i = 0; i < k; i++)
		args[n++] = named[i];
	args[n] = NULL;
	rc = git_must(&c->g, args, &out, WHY(c));
	for (size_t i = 0; i < k; i++)
		free(named[i]);
	if (rc != OK)
		return session_fail_machine(c->j, rc);
	c->r.empty = true;
	note_refs(c, out);
	if (!c->r.empty)
		return OK;
	/* HEAD may point to a branch that does not exist while others do. */
	AUTO_STR any = NULL;
	rc = git_must(&c->g, GIT_ARGS("ls-remote", "origin"), &any, WHY(c));
	if (rc != OK)
		return session_fail_machine(c->j, rc);
	c->r.empty = any[0] == '\0';
	return OK;
}

/* A ref here may stand in the way of a new one, when origin has a folder now where it had a branch, or the other way
 * round: what origin has no more goes first. */
static int fetch(struct checkout_job *c, const char *spec)
{
	const char *const args[] = {
	    "fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "--no-auto-gc", "origin", spec, NULL};
	struct git g = c->g;
	struct box *box = g.box = session_own_box(c->j->s);
	int rc = git_must(&g, args, NULL, WHY(c));

	if (rc == ERR_INVALID && git_must(&g, GIT_ARGS("remote", "prune", "origin"), NULL, NULL) == OK)
		rc = git_must(&g, args, NULL, WHY(c));
	box_close(&box, 0, CLOSE_GIVE_UP_MS);
	return rc == OK ? OK : session_fail_machine(c->j, rc);
}

/* What the remote just said of the branch; NULL: it was not asked. */
static const char *remote_commit(const struct checkout_job *c, const char *branch)
{
	if (c->r.start_head != NULL && strcmp(branch, c->start) == 0)
		return c->r.start_head;
	if (c->r.branch != NULL && strcmp(branch, c->want->branch) == 0)
		return c->r.branch;
	return c->r.default_branch != NULL && strcmp(branch, c->r.default_branch) == 0 ? c->r.head : NULL;
}

/* Fetched before, and not moved since. The seed, whose objects these may be, can have lost them. */
static bool is_here(const struct checkout_job *c, const char *branch)
{
	AUTO_STR ref = str_printf("refs/remotes/origin/%s", branch);
	AUTO_STR have = depot_read_ref(session_primary(c->j->s)->depot.dir, ref);
	AUTO_STR commit = str_printf("%s^{commit}", have);
	const char *there = remote_commit(c, branch);

	return there != NULL && strcmp(have, there) == 0 && git_says_yes(&c->g, GIT_ARGS("cat-file", "-e", commit));
}

static int fetch_branch(struct checkout_job *c, const char *branch, char **ret_sha)
{
	AUTO_STR spec = str_printf("+refs/heads/%s:refs/remotes/origin/%s", branch, branch);
	AUTO_STR ref = str_printf("refs/remotes/origin/%s^{commit}", branch);
	int rc;

	if (is_here(c, branch)) {
		*ret_sha = str_dup(remote_commit(c, branch));
		return OK;
	}
	rc = fetch(c, spec);

	return rc != OK ? rc : git_must(&c->g, GIT_ARGS("rev-parse", "--verify", ref), ret_sha, WHY(c));
}

static int not_on_origin(const struct checkout_job *c)
{
	return why_set(WHY(c), ERR_INVALID, "branch or commit '%.100s' was not found on origin", c->want->starting_ref);
}

static int fetch_commit(struct checkout_job *c, char **ret_sha)
{
	AUTO_STR commit = str_printf("%s^{commit}", c->start);
	struct git quiet = c->g;
	struct box *box;
	bool ok;

	quiet.said = NULL;
	if (git_must(&quiet, GIT_ARGS("rev-parse", "-q", "--verify", commit), ret_sha, NULL) == OK)
		return OK;
	quiet.box = box = session_own_box(c->j->s);
	/* Not every server gives out single commits; then all its branches may bring it. */
	ok = git_says_yes(&quiet, GIT_ARGS("fetch", "--quiet", "--no-tags", "--no-auto-gc", "origin", c->start)) ||
	     git_says_yes(
		 &quiet, GIT_ARGS("fetch", "--quiet", "--no-auto-gc", "origin", "+refs/heads/*:refs/remotes/origin/*"));
	box_close(&box, 0, CLOSE_GIVE_UP_MS);
	quiet.box = NULL;
	if (!ok)
		return not_on_origin(c);
	if (git_must(&quiet, GIT_ARGS("rev-parse", "-q", "--verify", commit), ret_sha, NULL) != OK)
		return not_on_origin(c);
	return OK;
}

/* origin/NAME, where origin has no branch of that whole name. */
static int fetch_start_of_origin(struct checkout_job *c, char **ret_sha)
{
	AUTO_STR ref = str_printf("refs/heads/%s", c->start + 7);
	AUTO_STR out = NULL;
	int rc = git_must(&c->g, GIT_ARGS("ls-remote", "origin", ref), &out, WHY(c));

	if (rc != OK)
		return session_fail_machine(c->j, rc);
	if (out[0] == '\0')
		return not_on_origin(c);
	str_set(&c->r.start_head, "");
	memmove(c->start, c->start + 7, strlen(c->start + 7) + 1);
	return fetch_branch(c, c->start, ret_sha);
}

/* A remote that was empty has branches of agents by now, but not the one that its HEAD names. They start as the first
 * one did. Commits of the seed that origin never saw are nobody's start. */
static int start_without_default(struct checkout_job *c, char **ret_sha)
{
	AUTO_STR head = seed_head(&session_primary(c->j->s)->seed);

	if (head[0] != '\0' && !session_is_on_origin(c->j, head))
		return why_set(WHY(c), ERR_INVALID, "origin names no default branch; give a starting ref");
	session_warn(c->j->warnings,
	    "origin names no default branch; the branch starts from what is checked out on the worker%s.",
	    head[0] != '\0' ? "" : ", which has no commit");
	*ret_sha = TAKE(head);
	return OK;
}

/* The commit that a new branch starts from. */
static int fetch_start(struct checkout_job *c, char **ret_sha)
{
	AUTO_STR tag = str_printf("+refs/tags/%s:refs/tags/%s", c->start, c->start);
	AUTO_STR commit = str_printf("refs/tags/%s^{commit}", c->start);
	int rc;

	if (c->start[0] == '\0' && c->r.default_branch == NULL)
		return start_without_default(c, ret_sha);
	if (c->start[0] == '\0')
		return fetch_branch(c, c->r.default_branch, ret_sha);
	if (c->r.start_head != NULL)
		return fetch_branch(c, c->start, ret_sha);
	if (c->r.start_tag) {
		rc = fetch(c, tag);
		return rc != OK ? rc : git_must(&c->g, GIT_ARGS("rev-parse", "--verify", commit), ret_sha, WHY(c));
	}
	if (text_has_prefix(c->start, "origin/") && !c->start_is_head && !c->start_is_tag)
		return fetch_start_of_origin(c, ret_sha);
	return git_is_sha(c->start) ? fetch_commit(c, ret_sha) : not_on_origin(c);
}

/* work_on_current_branch: the starting ref, or the default branch, is the branch. */
static int name_branch(struct checkout_job *c)
{
	if (!c->want->work_on_current_branch) {
		str_set(&c->branch, c->want->branch);
		if (c->r.prefix_taken) {
			for (char *p = c->branch; *p != '\0'; p++)
				if (*p == '/')
					*p = '-';
			session_warn(c->j->warnings,
			    "origin has a branch with the name of a folder of %s; the work goes to branch %s instead.",
			    c->want->branch, c->branch);
		}
		return OK;
	}
	if (text_has_prefix(c->start, "origin/") && c->r.start_head == NULL && !c->r.empty) {
		UNUSED AUTO_STR sha = NULL;

		if (fetch_start_of_origin(c, &sha) != OK)
			return not_on_origin(c);
	}
	if (c->start[0] != '\0' && c->r.start_head == NULL && !c->r.empty)
		return not_on_origin(c);
	str_set(&c->branch, c->start[0] != '\0' ? c->start : c->r.default_branch);
	if (c->branch == NULL && c->r.empty)
		str_set(&c->branch, "main");
	if (c->branch == NULL)
		return why_set(WHY(c), ERR_INVALID, "origin names no default branch; give a starting ref");
	if (!git_ref_is_sound(c->branch))
		return why_set(WHY(c), ERR_INVALID, "'%.100s' is not a name that a branch can have", c->branch);
	str_set(&c->r.branch, c->r.empty ? NULL : c->branch);
	return OK;
}

static bool is_ancestor(const struct checkout_job *c, const char *a, const char *b)
{
	return git_says_yes(&c->own, GIT_ARGS("merge-base", "--is-ancestor", a, b));
}

/* Commits of the agent that never came to the remote go on top of what is there; if that has moved on otherwise, they
 * are what the agent goes on with. */
static void add_kept_commits(struct checkout_job *c, struct checkout *ret)
{
	AUTO_STR ref = session_agent_ref(c->j->s, c->want->agent_id, "work");
	AUTO_STR work = depot_read_ref(session_primary(c->j->s)->depot.own, ref);
	AUTO_STR subject = NULL;
	AUTO_STR parent = NULL;

	c->j->s->has_kept = work[0] != '\0';
	if (work[0] == '\0' ||
	    git_must(&c->own, GIT_ARGS("log", "-1", "--format=%s", work, "--"), &subject, NULL) != OK)
		return;
	if (strcmp(subject, DEPOT_WIP) == 0) {
		AUTO_STR first = str_printf("%s^", work);

		parent = depot_ref(&session_primary(c->j->s)->depot, &c->g, first);
		str_set(&work, parent);
	}
	if (work[0] == '\0' || (ret->tip[0] != '\0' && is_ancestor(c, work, ret->tip)))
		return;
	if (ret->tip[0] != '\0' && !is_ancestor(c, ret->tip, work))
		session_warn(c->j->warnings,
		    "Branch %s has moved on origin; the agent's unpublished commits are used as they are.",
		    ret->branch);
	str_set(&ret->tip, work);
}

/* Where the agent's changes are counted from. Known since its first session here, else where its branch left the start.
 */
static int find_base(struct checkout_job *c, struct checkout *ret, bool is_new)
{
	const struct depot *k = &session_primary(c->j->s)->depot;
	AUTO_STR ref = session_agent_ref(c->j->s, c->want->agent_id, "base");
	AUTO_STR start = NULL;

	ret->base = depot_read_ref(k->own, ref);
	if (ret->base[0] != '\0' && !c->want->work_on_current_branch)
		return OK;
	str_free(&ret->base);
	if (ret->tip[0] == '\0')
		return git_must(&c->g, GIT_ARGS("hash-object", "-t", "tree", "/dev/null"), &ret->base, WHY(c));
	if (is_new || c->want->work_on_current_branch || fetch_start(c, &start) != OK ||
	    git_must(&c->own, GIT_ARGS("merge-base", ret->tip, start), &ret->base, NULL) != OK)
		ret->base = str_dup(ret->tip);
	IGNORE(depot_write_ref(k->own, ref, ret->base));
	return git_interrupted(&c->g, WHY(c));
}

/* A remote without a commit: the branch begins with what the seed has, if it has any. */
static int start_from_seed(struct checkout_job *c, struct checkout *ret)
{
	ret->tip = seed_head(&session_primary(c->j->s)->seed);
	if (ret->tip[0] != '\0')
		session_warn(
		    c->j->warnings, "origin has no commits; the branch starts from what is checked out on the worker.");
	return OK;
}

static int choose(struct checkout_job *c, struct checkout *ret)
{
	bool is_new = c->r.branch == NULL || c->r.prefix_taken;
	int rc;

	ret->branch = str_dup(c->branch);
	if (c->r.empty)
		rc = start_from_seed(c, ret);
	else if (is_new)
		rc = fetch_start(c, &ret->tip);
	else
		rc = fetch_branch(c, c->branch, &ret->tip);
	if (rc != OK)
		return rc;
	ret->start = str_dup(c->start[0] == '\0' ? c->r.default_branch : c->r.start_head != NULL ? c->start : NULL);
	/* What was kept is work of the agent's. */
	rc = find_base(c, ret, is_new);
	if (rc == OK)
		add_kept_commits(c, ret);
	return rc;
}

static int check_repository(struct session_job *j, const struct session_open *want)
{
	const struct session_root *r = session_primary(j->s);
	AUTO_STR wanted = repo_url_redact(want->repo_url);
	AUTO_STR shown = NULL;

	if (r->unusable.text[0] != '\0') {
		j->fail->machine = true;
		return why_set(&j->fail->why, ERR_IO, "%s", r->unusable.text);
	}
	if (!r->seed.is_repo)
		return why_set(
		    &j->fail->why, ERR_INVALID, "the workspace '%s' is not a checkout of %.150s", r->seed.root, wanted);
	if (r->seed.url == NULL)
		return why_set(&j->fail->why, ERR_INVALID,
		    "the checkout '%s' has no remote named origin, so it cannot be used for %.150s", r->seed.top,
		    wanted);
	shown = repo_url_redact(r->seed.url);
	if (!repo_url_same(r->seed.url, want->repo_url))
		return why_set(&j->fail->why, ERR_INVALID, "the checkout '%s' belongs to %.150s, not to %.150s",
		    r->seed.top, shown, wanted);
	return OK;
}

static int checkout_with_depot(struct session_job *j, const struct session_open *want, struct checkout *ret)
{
	struct session_root *r = session_primary(j->s);
	AUTO_FINI(checkout_job) c = {.j = j, .want = want};
	int rc = depot_open(j->s->repos_dir, &r->seed, &r->depot, &j->fail->why);

	j->fail->machine = rc != OK;
	if (rc != OK)
		return rc;
	c.g = depot_git_origin(&r->depot, &j->g);
	c.own = session_git_depot(j);
	read_start(&c);
	rc = check_names(&c);
	if (rc == OK && want->progress != NULL)
		want->progress(want->progress_ctx, "fetching from origin");
	if (rc == OK)
		rc = ask_remote(&c);
	if (rc == OK)
		rc = name_branch(&c);
	return rc == OK ? choose(&c, ret) : rc;
}

int session_checkout(struct session_job *j, const struct session_open *want, struct checkout *ret)
{
	struct session_root *r = session_primary(j->s);
	int lock, rc;

	if (seed_refresh(&r->seed, j->g.cancel_fd, &j->fail->why) != OK) {
		j->fail->machine = true;
		return ERR_IO;
	}
	rc = check_repository(j, want);
	if (rc != OK)
		return rc;
	rc = session_lock_depot(j, r, &lock);
	if (rc == OK)
		rc = checkout_with_depot(j, want, ret);
	depot_unlock(&lock);
	return rc;
}
