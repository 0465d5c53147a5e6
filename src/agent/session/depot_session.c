/* Between the depot and a session's own git directory. */
#include "agent/session/depot.h"
#include "agent/session/tree_priv.h"
#include "base/folder.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LOOSE_REFS 200000
#define MAX_REF_DEPTH 64
#define MAX_TEXT_BYTES (64 * 1024 * 1024)

static int make_dirs(const char *dir, struct why *why)
{
	static const char *const dirs[] = {
	    "objects", "objects/info", "objects/pack", "refs", "refs/heads", "refs/tags", "info", "hooks", "modules"};

	for (size_t i = 0; i < ARRAY_LEN(dirs); i++) {
		AUTO_STR path = str_printf("%s/%s", dir, dirs[i]);

		if (mkdir(path, 0755) != 0 && errno != EEXIST)
			return why_set(why, err_from_errno(errno), "cannot make '%.300s': %s", path, strerror(errno));
	}
	return OK;
}

static int put(const char *dir, const char *name, const char *text, size_t len, struct why *why)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	bool ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;

	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	return ok ? OK : why_set(why, err_from_errno(errno), "cannot write '%.300s': %s", path, strerror(errno));
}

static void copy_if_there(const char *from_dir, const char *to_dir, const char *name)
{
	AUTO_STR from = str_printf("%s/%s", from_dir, name);
	AUTO_STR text = NULL;
	size_t len;

	if (text_read_file(from, MAX_TEXT_BYTES, &text, &len) == OK)
		IGNORE(put(to_dir, name, text, len, NULL));
}

/* Without a name and an address git makes no commit. Where the machine has none, the agent has the one that the worker
 * commits with; what is in the environment stands above it. */
static void add_identity(struct strbuf *b, const struct seed *seed)
{
	if (!seed->has_user_name)
		strbuf_adds(b, "[user]\n\tname = Bullpen\n");
	if (!seed->has_user_email)
		strbuf_adds(b, "[user]\n\temail = bullpen@localhost\n");
}

static int put_session_config(const struct seed *seed, const char *dir, const char *branch, struct why *why)
{
	struct strbuf b = STRBUF(MAX_TEXT_BYTES);
	AUTO_STR text = NULL;

	strbuf_addf(&b,
	    "[core]\n\trepositoryformatversion = 1\n\tbare = false\n\tlogAllRefUpdates = true\n"
	    "[extensions]\n\tobjectFormat = %s\n%s",
	    seed->object_format, seed->config);
	if (seed->url != NULL)
		strbuf_adds(&b, "[remote \"origin\"]\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n");
	/* Nothing goes on in the background when a session ends. */
	strbuf_adds(&b, "[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n");
	if (seed->hooks_path != NULL && seed->hooks_path[0] != '/')
		strbuf_addf(&b, "[core]\n\thooksPath = \"%s\"\n", seed->hooks_path);
	add_identity(&b, seed);
	/* What a branch's name may hold needs no quotes but these. */
	strbuf_addf(&b, "[branch \"%s\"]\n\tremote = origin\n\tmerge = refs/heads/%s\n", branch, branch);
	text = strbuf_take(&b);
	return put(dir, "config", text, strlen(text), why);
}

static void add_branch(struct strbuf *b, const char *commit, const char *name)
{
	if (commit[0] != '\0')
		strbuf_addf(b, "%s refs/heads/%s\n", commit, name);
}

static int put_refs(const struct depot *k, const char *dir, const struct depot_checkout *want, struct why *why)
{
	static const char *const shown[] = {"refs/remotes/origin", "refs/tags", NULL};
	AUTO_STR head = str_printf("ref: refs/heads/%s\n", want->branch);
	struct strbuf b = STRBUF(MAX_TEXT_BYTES);
	AUTO_STR all = NULL;
	int rc;

	depot_list_refs(k->dir, shown, &b);
	add_branch(&b, want->tip, want->branch);
	if (want->start != NULL && strcmp(want->start, want->branch) != 0) {
		AUTO_STR ref = str_printf("refs/remotes/origin/%s", want->start);
		AUTO_STR commit = depot_read_ref(k->dir, ref);

		add_branch(&b, commit, want->start);
	}
	all = strbuf_take(&b);
	rc = put(dir, "packed-refs", all, strlen(all), why);
	return rc == OK ? put(dir, "HEAD", head, strlen(head), why) : rc;
}

/* Hooks that act on what the agent does in its own checkout; those of commits and pushes by the worker are the depot's.
 */
static void copy_hooks(const struct seed *seed, const char *dir)
{
	AUTO_STR from = NULL;
	AUTO_STR to = str_printf("%s/hooks", dir);
	DIR *d;
	struct dirent *e;

	if (seed->hooks_path != NULL && seed->hooks_path[0] != '/')
		return;
	from = seed->hooks_path != NULL ? str_dup(seed->hooks_path) : str_printf("%s/hooks", seed->common_dir);
	d = opendir(from);
	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL) {
		AUTO_STR path = str_printf("%s/%s", from, e->d_name);
		AUTO_STR made = str_printf("%s/%s", to, e->d_name);

		if (e->d_name[0] == '.' || text_has_suffix(e->d_name, ".sample") || access(path, X_OK) != 0)
			continue;
		copy_if_there(from, to, e->d_name);
		IGNORE(chmod(made, 0755));
	}
	closedir(d);
}

/* Git directories of submodules: their objects are read where they are, the rest is copied. A hard link to an object
 * would be one to the seed, which whoever owns it can write. */
static int copy_modules(const struct seed *seed, const char *dir, struct why *why)
{
	AUTO_STR from = str_printf("%s/modules", seed->common_dir);
	AUTO_STR to = str_printf("%s/modules", dir);
	struct tree_copy c = {.from = from, .to = to, .reflink = true, .borrow_objects = true};
	struct tree_cost cost = {0};

	return access(from, F_OK) == 0 ? tree_copy(&c, &cost, why) : OK;
}

int depot_make_checkout(
    const struct depot *k, const struct seed *seed, const char *dir, const struct depot_checkout *want, struct why *why)
{
	AUTO_STR alternates = str_printf("%s/objects\n%s/objects\n", seed->common_dir, k->dir);
	AUTO_STR seed_info = str_printf("%s/info", seed->common_dir);
	AUTO_STR worktree_info = str_printf("%s/info", seed->git_dir);
	AUTO_STR info = str_printf("%s/info", dir);
	int rc = make_dirs(dir, why);

	if (rc == OK)
		rc = put(dir, "objects/info/alternates", alternates, strlen(alternates), why);
	if (rc == OK)
		rc = put_session_config(seed, dir, want->branch, why);
	if (rc == OK)
		rc = put_refs(k, dir, want, why);
	if (rc != OK)
		return rc;
	/* It is there in any case: the session adds to it. */
	IGNORE(put(info, "exclude", "", 0, NULL));
	copy_if_there(seed_info, info, "exclude");
	copy_if_there(seed_info, info, "attributes");
	copy_if_there(worktree_info, info, "sparse-checkout");
	copy_if_there(k->dir, dir, "shallow");
	depot_bring_index(k, seed, dir);
	copy_hooks(seed, dir);
	return copy_modules(seed, dir, why);
}

static int unsound(const char *path, const char *what, struct why *why)
{
	return why_set(why, ERR_INVALID, "the session's git folder was damaged: %.200s is %s", path, what);
}

/* `where` begins at the git directory, for messages. */
static int check_refs(int parent, const char *name, const char *where, int depth, size_t *n, struct why *why)
{
	int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc = OK;
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	struct dirent *e;

	if (d == NULL) {
		if (fd >= 0)
			close(fd);
		return unsound(where, "no folder that can be read", why);
	}
	while (rc == OK && (e = readdir(d)) != NULL) {
		AUTO_STR below = str_printf("%s/%s", where, e->d_name);
		struct stat st;

		if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0 ||
		    fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0)
			continue;
		if (++*n > MAX_LOOSE_REFS || depth > MAX_REF_DEPTH)
			rc = unsound(where, "too large", why);
		else if (S_ISDIR(st.st_mode))
			rc = check_refs(dirfd(d), e->d_name, below, depth + 1, n, why);
		else if (!S_ISREG(st.st_mode))
			rc = unsound(below, "neither a file nor a folder", why);
	}
	closedir(d);
	return rc;
}

int depot_check_git_dir(const char *git_dir, struct why *why)
{
	static const char *const files[] = {"HEAD", "config", "config.worktree", "index", "packed-refs", "shallow",
	    "info/grafts", "info/exclude", "info/attributes", "objects/info/alternates"};
	static const char *const folders[] = {"objects", "objects/info", "objects/pack", "info"};
	int dir = open(git_dir, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), rc = OK;
	struct stat st;
	size_t n = 0;

	if (dir < 0)
		return errno == ENOENT ? why_set(why, ERR_INVALID, "not a git repository: the session removed '.git'")
				       : unsound(".git", "no folder", why);
	for (size_t i = 0; rc == OK && i < ARRAY_LEN(folders); i++)
		if (fstatat(dir, folders[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(st.st_mode))
			rc = unsound(folders[i], "no folder", why);
	for (size_t i = 0; rc == OK && i < ARRAY_LEN(files); i++)
		if (fstatat(dir, files[i], &st, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISREG(st.st_mode))
			rc = unsound(files[i], "no file", why);
	/* It would make another folder's refs those of this one. */
	if (rc == OK && fstatat(dir, "commondir", &st, AT_SYMLINK_NOFOLLOW) == 0)
		rc = unsound("commondir", "there", why);
	if (rc == OK)
		rc = check_refs(dir, "refs", "refs", 0, &n, why);
	close(dir);
	return rc;
}

int depot_take_over(const struct depot *k, const struct git *g, const char *git_dir, bool has_head, struct why *why)
{
	struct git own = depot_git(k, g);
	int rc = depot_check_git_dir(git_dir, why);

	own.box = g->box;
	if (rc != OK)
		return rc;
	/* Serving a fetch is what git does for repositories that it need not trust: it runs nothing of their
	 * configuration (git help upload-pack, "SECURITY"). */
	return git_must(&own,
	    GIT_ARGS("-c", "protocol.file.allow=always", "fetch", "--quiet", "--no-tags", "--no-write-fetch-head",
		"--no-recurse-submodules", "--prune", "--no-auto-gc", "--update-shallow", git_dir,
		"+refs/heads/*:refs/bullpen/session/heads/*", has_head ? "+HEAD:refs/bullpen/session/HEAD" : NULL),
	    NULL, why);
}
