/* Opening a session on a repository. Everything that must outlive the worker is in git itself: the branch, the base
 * commit and the owner as branch.NAME.bullpenBase and bullpenAgent of the repository's configuration. */
#include "base/repo_url.h"
#include "agent/worker/session_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>
#include <unistd.h>

/* What the remote has of the names that we care for. */
struct remote_view {
	char *default_branch; /* NULL: unknown */
	char *branch; /* commit of the agent's branch there, or NULL */
	char *start_head; /* commit of starting_ref as a branch, or NULL */
	bool start_tag;
	bool empty; /* no refs at all */
};

struct checkout_job {
	const struct session_open *want;
	struct git *g;
	json_t *warnings;
	char *branch;
	char *current; /* "" if HEAD is detached */
	bool unborn;
	struct remote_view r;
};

static void checkout_job_fini(struct checkout_job *j)
{
	str_free(&j->branch);
	str_free(&j->current);
	str_free(&j->r.default_branch);
	str_free(&j->r.branch);
	str_free(&j->r.start_head);
}

static char *config_get(const struct git *g, const char *branch, const char *key)
{
	AUTO_STR name = str_printf("branch.%s.%s", branch, key);
	char *v = NULL;

	if (git_must(g, GIT_ARGS("config", "--local", "--get", name), &v, NULL) != OK)
		v = str_dup("");
	return v;
}

static int config_set(const struct git *g, const char *branch, const char *key, const char *value, struct why *why)
{
	AUTO_STR name = str_printf("branch.%s.%s", branch, key);

	return git_must(g, GIT_ARGS("config", "--local", name, value), NULL, why);
}

char *session_base(const struct git *g, const char *branch)
{
	return config_get(g, branch, "bullpenBase");
}

static int find_checkout(
    const struct session *s, const struct session_open *want, struct git *g, char **ret_top, struct why *why)
{
	AUTO_STR top = NULL;
	AUTO_STR origin = NULL;
	AUTO_STR shown = NULL;
	AUTO_STR wanted = repo_url_redact(want->repo_url);
	struct why reason = {{0}};
	int rc = git_must(g, GIT_ARGS("rev-parse", "--show-toplevel"), &top, &reason);

	if (rc == ERR_CANCELLED || rc == ERR_TIMEOUT)
		return why_set(why, rc, "%s", reason.text);
	if (rc != OK || top[0] == '\0')
		return why_set(why, ERR_INVALID, "the workspace '%s' is not a checkout of %.150s (%.150s)",
		    session_primary_root(s), wanted, reason.text);
	if (git_must(g, GIT_ARGS("remote", "get-url", "origin"), &origin, NULL) != OK)
		return why_set(why, ERR_INVALID,
		    "the checkout '%s' has no remote named origin, so it cannot be used for %.150s", top, wanted);
	shown = repo_url_redact(origin);
	if (!repo_url_same(origin, want->repo_url))
		return why_set(
		    why, ERR_INVALID, "the checkout '%s' belongs to %.150s, not to %.150s", top, shown, wanted);
	*ret_top = TAKE(top);
	return OK;
}

static int checkout_check_names(struct checkout_job *j, struct why *why)
{
	const struct session_open *w = j->want;

	if (w->starting_ref[0] != '\0' && !git_ref_is_sound(j->g, w->starting_ref))
		return why_set(
		    why, ERR_INVALID, "'%.100s' is not a name that a branch or commit can have", w->starting_ref);
	if (!w->work_on_current_branch && !git_ref_is_sound(j->g, w->branch))
		return why_set(why, ERR_INVALID, "'%.100s' is not a name that a branch can have", w->branch);
	return OK;
}

static int look_at_head(struct checkout_job *j, struct why *why)
{
	AUTO_FINI(git_out) o = {0};
	int rc = git_run(j->g, GIT_ARGS("symbolic-ref", "-q", "HEAD"), &o, why);

	if (rc != OK)
		return rc;
	str_set(&j->current, o.status == 0 && text_has_prefix(o.out, "refs/heads/") ? o.out + 11 : "");
	j->unborn = !git_says_yes(j->g, GIT_ARGS("rev-parse", "-q", "--verify", "HEAD"));
	return OK;
}

static int refuse_half_done(struct checkout_job *j, struct why *why)
{
	static const struct {
		const char *file, *what;
	} states[] = {{"MERGE_HEAD", "merge"}, {"rebase-merge", "rebase"}, {"rebase-apply", "rebase"},
	    {"CHERRY_PICK_HEAD", "cherry-pick"}, {"REVERT_HEAD", "revert"}, {"BISECT_LOG", "bisect"}};
	AUTO_STR dir = NULL;
	int rc = git_must(j->g, GIT_ARGS("rev-parse", "--absolute-git-dir"), &dir, why);

	for (size_t i = 0; rc == OK && i < ARRAY_LEN(states); i++) {
		AUTO_STR path = str_printf("%s/%s", dir, states[i].file);

		if (access(path, F_OK) == 0)
			rc = why_set(why, ERR_INVALID,
			    "a %s is in progress in '%s'; finish or abort it on the worker first", states[i].what,
			    j->g->dir);
	}
	return rc;
}

/* "SHA\tREF" or "ref: REF\tHEAD". */
static void note_ref(struct checkout_job *j, const char *sha, const char *ref)
{
	const char *start = j->want->starting_ref;

	if (text_has_prefix(sha, "ref: refs/heads/")) {
		if (strcmp(ref, "HEAD") == 0)
			str_set(&j->r.default_branch, sha + 16);
		return;
	}
	j->r.empty = false;
	if (text_has_prefix(ref, "refs/heads/") && strcmp(ref + 11, j->want->branch) == 0)
		str_set(&j->r.branch, sha);
	if (text_has_prefix(ref, "refs/heads/") && strcmp(ref + 11, start) == 0)
		str_set(&j->r.start_head, sha);
	if (text_has_prefix(ref, "refs/tags/") && strcmp(ref + 10, start) == 0)
		j->r.start_tag = true;
}

static int ask_remote(struct checkout_job *j, struct why *why)
{
	AUTO_STR branch = str_printf("refs/heads/%s", j->want->branch);
	AUTO_STR head = str_printf("refs/heads/%s", j->want->starting_ref);
	AUTO_STR tag = str_printf("refs/tags/%s", j->want->starting_ref);
	AUTO_STR out = NULL;
	char *any = NULL;
	int rc = git_must(j->g, GIT_ARGS("ls-remote", "--symref", "origin", "HEAD", branch, head, tag), &out, why);

	if (rc != OK)
		return rc;
	j->r.empty = true;
	for (char *line = out, *next; line != NULL && *line != '\0'; line = next) {
		char *tab = strchr(line, '\t');

		next = strchr(line, '\n');
		if (next != NULL)
			*next++ = '\0';
		if (tab == NULL || (next != NULL && tab >= next))
			continue;
		*tab = '\0';
		note_ref(j, line, tab + 1);
	}
	if (!j->r.empty)
		return OK;
	/* HEAD may point to a branch that does not exist while others do. */
	rc = git_must(j->g, GIT_ARGS("ls-remote", "origin"), &any, why);
	if (rc == OK)
		j->r.empty = any[0] == '\0';
	str_free(&any);
	return rc;
}

static int fetch_branch(struct checkout_job *j, const char *branch, char **ret_sha, struct why *why)
{
	AUTO_STR spec = str_printf("+refs/heads/%s:refs/remotes/origin/%s", branch, branch);
	AUTO_STR ref = str_printf("refs/remotes/origin/%s^{commit}", branch);
	int rc = git_must(
	    j->g, GIT_ARGS("fetch", "--quiet", "--no-tags", "--no-recurse-submodules", "origin", spec), NULL, why);

	return rc != OK ? rc : git_must(j->g, GIT_ARGS("rev-parse", "--verify", ref), ret_sha, why);
}

static int not_on_origin(const struct checkout_job *j, struct why *why)
{
	return why_set(why, ERR_INVALID, "branch or commit '%.100s' was not found on origin", j->want->starting_ref);
}

static int fetch_commit(struct checkout_job *j, char **ret_sha, struct why *why)
{
	const char *sha = j->want->starting_ref;
	AUTO_STR commit = str_printf("%s^{commit}", sha);
	struct why reason;

	if (git_must(j->g, GIT_ARGS("rev-parse", "-q", "--verify", commit), ret_sha, &reason) == OK)
		return OK;
	/* Not every server gives out single commits; then all its branches may bring it. */
	if (!git_says_yes(j->g, GIT_ARGS("fetch", "--quiet", "--no-tags", "origin", sha)) &&
	    !git_says_yes(j->g, GIT_ARGS("fetch", "--quiet", "origin", "+refs/heads/*:refs/remotes/origin/*")))
		return not_on_origin(j, why);
	if (git_must(j->g, GIT_ARGS("rev-parse", "-q", "--verify", commit), ret_sha, &reason) != OK)
		return not_on_origin(j, why);
	return OK;
}

/* The commit that a new branch starts from. */
static int fetch_start(struct checkout_job *j, char **ret_sha, struct why *why)
{
	const char *start = j->want->starting_ref;
	AUTO_STR tag = str_printf("refs/tags/%s", start);

	if (start[0] == '\0' && j->r.default_branch == NULL)
		return why_set(why, ERR_INVALID, "origin names no default branch; give a starting ref");
	if (start[0] == '\0')
		return fetch_branch(j, j->r.default_branch, ret_sha, why);
	if (j->r.start_head != NULL)
		return fetch_branch(j, start, ret_sha, why);
	if (j->r.start_tag) {
		int rc = git_must(j->g, GIT_ARGS("fetch", "--quiet", "--no-tags", "origin", tag), NULL, why);

		return rc != OK
			   ? rc
			   : git_must(j->g, GIT_ARGS("rev-parse", "--verify", "FETCH_HEAD^{commit}"), ret_sha, why);
	}
	return git_is_sha(start) ? fetch_commit(j, ret_sha, why) : not_on_origin(j, why);
}

static int put_aside(struct checkout_job *j, struct why *why)
{
	AUTO_STR status = NULL;
	AUTO_STR message = str_printf("bullpen: kept before %s", j->want->agent_id);
	AUTO_STR stash = NULL;
	int rc = git_must(j->g, GIT_ARGS("status", "--porcelain", "--ignore-submodules=dirty"), &status, why);

	if (rc != OK || status[0] == '\0')
		return rc;
	if (j->unborn) {
		session_warn(
		    j->warnings, "The workspace has files that were never committed; they were left in place.");
		return OK;
	}
	rc = git_must(j->g,
	    GIT_ARGS("-c", "user.name=Bullpen", "-c", "user.email=bullpen@localhost", "stash", "push", "--quiet",
		"--include-untracked", "-m", message),
	    NULL, why);
	if (rc != OK)
		return rc;
	if (git_must(j->g, GIT_ARGS("rev-parse", "--short", "refs/stash"), &stash, NULL) == OK)
		session_warn(j->warnings,
		    "Uncommitted changes found in the workspace were kept as git stash %s (\"%s\").", stash, message);
	return OK;
}

static int fast_forward(struct checkout_job *j, const char *to, struct why *why)
{
	if (git_says_yes(j->g, GIT_ARGS("merge-base", "--is-ancestor", to, "HEAD")))
		return OK;
	if (!git_says_yes(j->g, GIT_ARGS("merge-base", "--is-ancestor", "HEAD", to))) {
		session_warn(j->warnings, "Branch %s here and on origin have diverged; the local one is used as it is.",
		    j->branch);
		return OK;
	}
	return git_must(j->g, GIT_ARGS("merge", "--quiet", "--ff-only", to), NULL, why);
}

/* Where the agent's changes are counted from, on a branch that this worker did not make. */
static char *guess_base(struct checkout_job *j)
{
	AUTO_STR start = NULL;
	char *base = NULL;

	if (!j->want->work_on_current_branch && fetch_start(j, &start, NULL) == OK &&
	    git_must(j->g, GIT_ARGS("merge-base", "HEAD", start), &base, NULL) == OK)
		return base;
	IGNORE(git_must(j->g, GIT_ARGS("rev-parse", "--verify", "HEAD"), &base, NULL));
	return base != NULL ? base : str_dup("");
}

static int remember(struct checkout_job *j, const char *base, struct why *why)
{
	AUTO_STR merge = str_printf("refs/heads/%s", j->branch);
	int rc = config_set(j->g, j->branch, "bullpenBase", base, why);

	if (rc == OK)
		rc = config_set(j->g, j->branch, "bullpenAgent", j->want->agent_id, why);
	if (rc == OK)
		rc = config_set(j->g, j->branch, "remote", "origin", why);
	return rc != OK ? rc : config_set(j->g, j->branch, "merge", merge, why);
}

static int switch_to_existing(struct checkout_job *j, bool local, struct why *why)
{
	AUTO_STR remote = NULL;
	AUTO_STR base = NULL;
	int rc = OK;

	if (j->r.branch != NULL)
		rc = fetch_branch(j, j->branch, &remote, why);
	if (rc == OK)
		rc = put_aside(j, why);
	if (rc == OK && local)
		rc = git_must(j->g, GIT_ARGS("checkout", "--quiet", j->branch, "--"), NULL, why);
	else if (rc == OK)
		rc = git_must(
		    j->g, GIT_ARGS("checkout", "--quiet", "--no-track", "-B", j->branch, remote, "--"), NULL, why);
	if (rc == OK && local && remote != NULL)
		rc = fast_forward(j, remote, why);
	if (rc != OK)
		return rc;
	base = session_base(j->g, j->branch);
	if (base[0] == '\0' || j->want->work_on_current_branch) {
		free(base);
		base = guess_base(j);
	}
	return remember(j, base, why);
}

static int start_new(struct checkout_job *j, struct why *why)
{
	AUTO_STR base = NULL;
	int rc = j->r.empty ? OK : fetch_start(j, &base, why);

	if (rc == OK)
		rc = put_aside(j, why);
	if (rc != OK)
		return rc;
	if (!j->r.empty) {
		rc = git_must(
		    j->g, GIT_ARGS("checkout", "--quiet", "--no-track", "-b", j->branch, base, "--"), NULL, why);
	} else if (j->unborn) {
		AUTO_STR ref = str_printf("refs/heads/%s", j->branch);

		rc = git_must(j->g, GIT_ARGS("symbolic-ref", "HEAD", ref), NULL, why);
		if (rc == OK)
			rc = git_must(j->g, GIT_ARGS("hash-object", "-t", "tree", "/dev/null"), &base, why);
	} else {
		session_warn(
		    j->warnings, "origin has no commits; the branch starts from what is checked out on the worker.");
		rc = git_must(j->g, GIT_ARGS("rev-parse", "--verify", "HEAD"), &base, why);
		if (rc == OK)
			rc = git_must(j->g, GIT_ARGS("checkout", "--quiet", "--no-track", "-b", j->branch), NULL, why);
	}
	return rc != OK ? rc : remember(j, base, why);
}

/* work_on_current_branch: the starting ref, or the default branch, is the branch. */
static int name_branch(struct checkout_job *j, struct why *why)
{
	const struct session_open *w = j->want;

	if (!w->work_on_current_branch) {
		str_set(&j->branch, w->branch);
		return OK;
	}
	if (w->starting_ref[0] != '\0' && j->r.start_head == NULL && !j->r.empty)
		return not_on_origin(j, why);
	str_set(&j->r.branch, j->r.start_head);
	str_set(&j->branch, w->starting_ref[0] != '\0' ? w->starting_ref : j->r.default_branch);
	if (j->branch == NULL && j->r.empty)
		str_set(&j->branch, j->current[0] != '\0' ? j->current : "main");
	if (j->branch == NULL)
		return why_set(why, ERR_INVALID, "origin names no default branch; give a starting ref");
	if (!git_ref_is_sound(j->g, j->branch))
		return why_set(why, ERR_INVALID, "'%.100s' is not a name that a branch can have", j->branch);
	if (w->starting_ref[0] == '\0' && !j->r.empty)
		str_set(&j->r.branch, j->branch);
	return OK;
}

/* The current branch is the agent's own: nothing is touched, not even the network. */
static bool is_resumed(const struct checkout_job *j)
{
	const struct session_open *w = j->want;
	AUTO_STR owner = NULL;

	if (j->current[0] == '\0')
		return false;
	owner = config_get(j->g, j->current, "bullpenAgent");
	if (w->work_on_current_branch)
		return strcmp(owner, w->agent_id) == 0 &&
		       (w->starting_ref[0] == '\0' || strcmp(w->starting_ref, j->current) == 0);
	return strcmp(j->current, w->branch) == 0 && (owner[0] == '\0' || strcmp(owner, w->agent_id) == 0);
}

static int resume(struct checkout_job *j, struct why *why)
{
	AUTO_STR base = session_base(j->g, j->current);
	AUTO_STR head = NULL;

	str_set(&j->branch, j->current);
	if (base[0] != '\0')
		return OK;
	if (git_must(j->g, GIT_ARGS("rev-parse", "-q", "--verify", "HEAD"), &head, NULL) != OK &&
	    git_must(j->g, GIT_ARGS("hash-object", "-t", "tree", "/dev/null"), &head, why) != OK)
		return ERR_INVALID;
	return remember(j, head, why);
}

static int change_branch(struct checkout_job *j, struct why *why)
{
	AUTO_STR ref = NULL;
	bool local;
	int rc = refuse_half_done(j, why);

	if (rc == OK)
		rc = ask_remote(j, why);
	if (rc == OK)
		rc = name_branch(j, why);
	if (rc != OK)
		return rc;
	ref = str_printf("refs/heads/%s", j->branch);
	local = git_says_yes(j->g, GIT_ARGS("show-ref", "--verify", "--quiet", ref));
	return local || j->r.branch != NULL ? switch_to_existing(j, local, why) : start_new(j, why);
}

int session_checkout(const struct session *s, const struct session_open *want, struct git *g, json_t *warnings,
    struct checkout *ret, struct why *why)
{
	AUTO_FINI(checkout_job) j = {.want = want, .g = g, .warnings = warnings};
	AUTO_STR top = NULL;
	bool resumed = false;
	int rc = find_checkout(s, want, g, &top, why);

	if (rc == OK) {
		g->dir = top;
		rc = checkout_check_names(&j, why);
	}
	if (rc == OK)
		rc = look_at_head(&j, why);
	if (rc == OK && (resumed = is_resumed(&j)))
		rc = resume(&j, why);
	else if (rc == OK)
		rc = change_branch(&j, why);
	if (rc == OK)
		*ret = (struct checkout){.top = TAKE(top), .branch = TAKE(j.branch), .resumed = resumed};
	g->dir = session_primary_root(s);
	return rc;
}
