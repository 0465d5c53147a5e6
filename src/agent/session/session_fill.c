/* A private checkout is brought to the commit that a session begins with. Nothing of the session has run yet, and its
 * git directory is of our own making. */
#include "agent/session/session_priv.h"
#include "base/mem.h"
#include "base/repo_url.h"
#include "base/text.h"
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Most seeds are at the commit that a session begins with, and nothing lies in them that is not in it. Then one look at
 * all files is enough, and git's answer is kept for the description. It is a look at the files at this moment: nothing
 * is believed of former ones. An overlay shows the seed's files and has none of its own yet, so git looks at the seed,
 * whose files the kernel has in memory; with a git directory, and an index to write, of the session's. There folders
 * that have not changed since the last look need not be read again. */
static bool nothing_differs(struct session_job *j, const struct git *g)
{
	struct git quiet = *g;
	AUTO_STR modules = str_printf("%s/.gitmodules", j->s->top);
	char *nl;

	quiet.said = NULL;
	if (tree_method(session_primary(j->s)->tree) == TREE_OVERLAY)
		quiet.dir = quiet.work_tree = session_primary(j->s)->seed.source;
	if (j->s->tip[0] == '\0' || j->s->has_kept || access(modules, F_OK) == 0 ||
	    strcmp(session_primary(j->s)->seed.object_format, "sha1") != 0 || !depot_index_is_plain(j->s->git_dir))
		return false;
	str_free(&j->status);
	if (git_must(&quiet,
		GIT_ARGS("-c", "core.untrackedCache=true", "status", "--porcelain", "--branch", "--no-renames",
		    "--untracked-files=normal", "--ignore-submodules=none"),
		&j->status, NULL) != OK)
		return false;
	/* The line about the branch, and no other. */
	nl = strchr(j->status, '\n');
	if (text_has_prefix(j->status, "## ") && nl == NULL)
		return true;
	str_free(&j->status);
	return false;
}

static void remember_index(struct session_job *j, bool anew)
{
	const struct session_root *r = session_primary(j->s);
	int lock;

	/* The files of a copy are others each time. */
	if (tree_method(r->tree) != TREE_OVERLAY || j->s->has_kept || session_lock_depot(j, r, &lock) != OK)
		return;
	depot_remember_index(&r->depot, &r->seed, j->s->git_dir, anew);
	depot_unlock(&lock);
}

/* Entries that a person told git to leave alone (assume-unchanged, skip-worktree) would keep what their files hold. In
 * a sparse checkout the second is how it is made. */
static bool index_hides_files(const struct session_job *j, const struct git *g)
{
	bool sparse = session_primary(j->s)->seed.sparse;
	AUTO_FINI(git_out) o = {0};

	if (depot_index_is_plain(j->s->git_dir))
		return false;
	if (git_run_bytes(g, GIT_ARGS("ls-files", "-v", "-z"), &o, NULL) != OK || o.status != 0)
		return true;
	for (size_t at = 0; at < o.out_len; at += strlen(o.out + at) + 1)
		if ((o.out[at] >= 'a' && o.out[at] <= 'z') || (o.out[at] == 'S' && !sparse))
			return true;
	return false;
}

static int move_to_tip(struct session_job *j, const struct git *g)
{
	AUTO_STR index = str_printf("%s/index", j->s->git_dir);
	int rc;

	if (j->s->tip[0] == '\0')
		return git_must(g, GIT_ARGS("read-tree", "--empty"), NULL, &j->fail->why);
	if (index_hides_files(j, g))
		unlink(index);
	rc = git_must(g, GIT_ARGS("reset", "--hard", "--quiet", j->s->tip), NULL, &j->fail->why);
	/* The index is the seed's. One that is half written, or leans on a file that is not here, is made anew. */
	if (rc == ERR_INVALID && access(index, F_OK) == 0) {
		unlink(index);
		rc = git_must(g, GIT_ARGS("reset", "--hard", "--quiet", j->s->tip), NULL, &j->fail->why);
	}
	return rc;
}

/* What lies in the seed and is neither in a commit nor ignored is somebody's own. */
static int drop_untracked(struct session_job *j, const struct git *g)
{
	return git_must(g, GIT_ARGS("clean", "-ffdq"), NULL, &j->fail->why);
}

/* Folders of submodules are the seed's, and may lead into its git directory: they are made anew from the session's. */
static void empty_submodules(struct session_job *j, const struct git *g)
{
	AUTO_FINI(git_out) o = {0};

	if (git_run_bytes(g, GIT_ARGS("ls-files", "-z", "--stage"), &o, NULL) != OK || o.status != 0)
		return;
	for (size_t at = 0; at < o.out_len; at += strlen(o.out + at) + 1) {
		const char *tab = strchr(o.out + at, '\t');

		if (text_has_prefix(o.out + at, "160000 ") && tab != NULL) {
			AUTO_STR path = str_printf("%s/%s", j->s->top, tab + 1);

			/* An empty folder is what git expects of one that is not checked out. */
			tree_delete(path);
			IGNORE(mkdir(path, 0755));
		}
	}
}

static void update_submodules(struct session_job *j, const struct git *g, const struct session_open *want)
{
	AUTO_STR file = str_printf("%s/.gitmodules", j->s->top);
	AUTO_FINI(git_out) o = {0};
	struct why why = {""};
	const char *url = session_primary(j->s)->seed.url;
	AUTO_STR host = NULL;
	AUTO_STR label = repo_url_label(url, &host);
	/* A folder as the address of a submodule is as good as one of the repository itself, and no better. */
	bool local = url[0] == '/' || text_has_prefix(url, "file://");
	int rc;

	if (access(file, F_OK) != 0)
		return;
	if (want->progress != NULL)
		want->progress(want->progress_ctx, "updating submodules");
	empty_submodules(j, g);
	rc = git_run(g,
	    GIT_ARGS("-c", local ? "protocol.file.allow=always" : "protocol.file.allow=user", "submodule", "--quiet",
		"update", "--init", "--recursive", "--force"),
	    &o, &why);
	if (rc == OK && o.status == 0)
		return;
	AUTO_STR reason = rc == OK ? git_reason(o.err) : str_dup(why.text);
	/* What was half done would look as if the agent had moved it. */
	empty_submodules(j, g);
	session_warn(j->warnings, "Submodules could not be updated, so some of their folders are empty: %s", reason);
}

int session_fill(struct session_job *j, const struct session_open *want)
{
	struct git g = session_git_inside(j);
	int rc;

	if (want->progress != NULL)
		want->progress(want->progress_ctx, "checking out");
	rc = session_bring_kept(j);
	if (rc == OK && nothing_differs(j, &g)) {
		remember_index(j, false);
		return OK;
	}
	if (rc == OK)
		rc = move_to_tip(j, &g);
	if (rc == OK)
		rc = drop_untracked(j, &g);
	if (rc != OK)
		return session_fail_machine(j, rc);
	remember_index(j, true);
	update_submodules(j, &g, want);
	rc = session_put_back(j);
	return rc != OK ? rc : git_interrupted(&g, &j->fail->why);
}
