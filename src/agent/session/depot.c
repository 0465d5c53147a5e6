#include "agent/session/depot.h"
#include "base/id.h"
#include "base/log.h"
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

#define MAX_HOOK_BYTES (1024 * 1024)

/* Most openings find it as it shall be: a file that takes another's place may wait for the disk. */
static bool is_there(const char *path, const char *text, size_t len)
{
	AUTO_STR old = NULL;
	size_t n;

	return text_read_file(path, len + 1, &old, &n) == OK && n == len && memcmp(old, text, len) == 0;
}

/* Whole or not at all. */
static int put_bytes(const char *dir, const char *name, const char *text, size_t len, mode_t mode, struct why *why)
{
	AUTO_STR path = str_printf("%s/%s", dir, name);
	AUTO_STR tmp = str_printf("%s.new", path);
	int fd;
	bool ok;

	if (is_there(path, text, len))
		return OK;
	fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, mode);
	ok = fd >= 0 && write(fd, text, len) == (ssize_t)len;
	if (fd >= 0)
		ok = close(fd) == 0 && ok;
	if (!ok || rename(tmp, path) != 0)
		return why_set(why, err_from_errno(errno), "cannot write '%.300s': %s", path, strerror(errno));
	return OK;
}

static int put_file(const char *dir, const char *name, const char *text, mode_t mode, struct why *why)
{
	return put_bytes(dir, name, text, strlen(text), mode, why);
}

static int put_config(const char *dir, const struct seed *seed, struct why *why)
{
	AUTO_STR text = str_printf("[core]\n\trepositoryformatversion = 1\n\tbare = true\n\tlogAllRefUpdates = false\n"
				   "[extensions]\n\tobjectFormat = %s\n%s"
				   "[remote \"origin\"]\n\tfetch = +refs/heads/*:refs/remotes/origin/*\n",
	    seed->object_format, seed->config);

	return put_file(dir, "config", text, 0600, why);
}

/* A hook is a program: copied, so that what a session may change is not what runs for the next. Whole or not at all,
 * and left alone if it is the same: another session may be running it. */
static int copy_hook(const char *from_dir, const char *to_dir, const char *name)
{
	AUTO_STR from = str_printf("%s/%s", from_dir, name);
	AUTO_STR text = NULL;
	size_t len;

	if (access(from, X_OK) != 0 || text_read_file(from, MAX_HOOK_BYTES, &text, &len) != OK)
		return ERR_NOT_FOUND;
	return put_bytes(to_dir, name, text, len, 0700, NULL);
}

/* Where the seed's hooks are: its own folder, or the one that its configuration names outside the work tree. A relative
 * one lies in the work tree and goes with it. NULL: none. */
static char *hooks_of(const struct seed *seed)
{
	if (seed->hooks_path == NULL)
		return str_printf("%s/hooks", seed->common_dir);
	return seed->hooks_path[0] == '/' ? str_dup(seed->hooks_path) : NULL;
}

static const char *const commit_hooks[] = {
    "pre-commit", "prepare-commit-msg", "commit-msg", "post-commit", "pre-merge-commit", "pre-push"};

static int put_hooks(struct depot *k, const struct seed *seed, struct why *why)
{
	AUTO_STR from = hooks_of(seed);
	AUTO_STR in_session = str_printf("%s/session-hooks", k->dir);
	bool any = false;
	int rc;

	k->hooks = str_printf("%s/hooks", k->dir);
	rc = folder_make(k->hooks, why);
	if (rc == OK)
		rc = folder_make(in_session, why);
	if (rc != OK)
		return rc;
	for (size_t i = 0; i < ARRAY_LEN(commit_hooks); i++) {
		bool push = strcmp(commit_hooks[i], "pre-push") == 0;
		const char *to = push ? k->hooks : in_session;
		AUTO_STR old = str_printf("%s/%s", to, commit_hooks[i]);

		if (from == NULL || copy_hook(from, to, commit_hooks[i]) != OK)
			unlink(old);
		else if (!push)
			any = true;
	}
	if (any)
		k->session_hooks = TAKE(in_session);
	else if (seed->hooks_path != NULL && seed->hooks_path[0] != '/')
		k->session_hooks = str_dup(seed->hooks_path); /* git reads it as relative to the work tree */
	return OK;
}

static int put_alternates(const struct depot *k, const struct seed *seed, struct why *why)
{
	AUTO_STR line = str_printf("%s/objects\n", seed->common_dir);
	AUTO_STR both = str_printf("%s/objects\n%s", k->dir, line);
	int rc = put_file(k->dir, "objects/info/alternates", line, 0600, why);

	return rc == OK ? put_file(k->own, "objects/info/alternates", both, 0600, why) : rc;
}

static void copy_text(const char *from_dir, const char *to_dir, const char *name)
{
	AUTO_STR from = str_printf("%s/%s", from_dir, name);
	AUTO_STR text = NULL;
	size_t len;

	if (text_read_file(from, MAX_HOOK_BYTES, &text, &len) == OK && strlen(text) == len)
		IGNORE(put_file(to_dir, name, text, 0600, NULL));
}

/* The seed's view of its remote is a good beginning: what it has need not be fetched. */
static int import_refs(struct depot *k, const struct seed *seed, struct why *why)
{
	struct git g = {.dir = seed->source, .git_dir = seed->git_dir, .work_tree = seed->source};
	AUTO_FINI(git_out) o = {0};
	int rc = git_run_bytes(&g,
	    GIT_ARGS("for-each-ref", "--format=%(objectname) %(refname)", "refs/remotes/origin", "refs/tags"), &o, why);

	if (rc == OK && o.status != 0)
		rc = git_failed(&g, GIT_ARGS("for-each-ref"), &o, why);
	if (rc != OK)
		return rc;
	/* A symbolic ref of the seed would be a copy that nobody moves. */
	AUTO_STR head = NULL;
	char *at = strstr(o.out, " refs/remotes/origin/HEAD\n");

	if (at != NULL) {
		char *start = at, *end = strchr(at, '\n') + 1;

		while (start > o.out && start[-1] != '\n')
			start--;
		memmove(start, end, strlen(end) + 1);
	}
	return put_file(k->dir, "packed-refs", o.out, 0600, why);
}

static int make_bare(const char *dir, const struct seed *seed, struct why *why)
{
	static const char *const dirs[] = {"objects/info", "objects/pack", "refs/heads", "refs/tags", "info"};
	int rc = OK;

	for (size_t i = 0; i < ARRAY_LEN(dirs) && rc == OK; i++) {
		AUTO_STR path = str_printf("%s/%s", dir, dirs[i]);

		rc = folder_make(path, why);
	}
	if (rc == OK)
		rc = put_config(dir, seed, why);
	if (rc == OK && seed->is_shallow)
		copy_text(seed->common_dir, dir, "shallow");
	return rc;
}

static int create(struct depot *k, const struct seed *seed, const char *mark, struct why *why)
{
	int rc = make_bare(k->dir, seed, why);

	if (rc == OK)
		rc = make_bare(k->own, seed, why);
	if (rc == OK)
		rc = put_alternates(k, seed, why);
	if (rc == OK)
		rc = import_refs(k, seed, why);
	if (rc == OK)
		rc = put_file(k->own, "HEAD", "ref: refs/heads/main\n", 0600, why);
	if (rc == OK)
		rc = put_file(k->dir, "seed", mark, 0600, why);
	/* Last: it is what says that the rest is there. */
	return rc == OK ? put_file(k->dir, "HEAD", "ref: refs/heads/main\n", 0600, why) : rc;
}

/* Objects that another clone at this place had are not to be had any more. */
static char *seed_mark(const struct seed *seed)
{
	AUTO_STR objects = str_printf("%s/objects", seed->common_dir);
	struct stat st;

	if (stat(objects, &st) != 0)
		return str_dup("");
	/* Not the device: its number is another one after the machine was started again, or the volume mounted. */
	return str_printf("%llx", (unsigned long long)st.st_ino);
}

static bool is_of_this_clone(const struct depot *k, const char *mark)
{
	AUTO_STR path = str_printf("%s/seed", k->dir);
	AUTO_STR text = NULL;
	size_t len;

	return text_read_file(path, 256, &text, &len) == OK && strcmp(text, mark) == 0;
}

/* What was kept there for agents may still be had by a person. */
static void set_aside_one(const char *dir)
{
	char hex[9];

	id_hex(hex, 4);
	AUTO_STR to = str_printf("%s.replaced-%s", dir, hex);

	if (rename(dir, to) == 0)
		log_warn("worker.depot.replaced", "folder=%s reason=\"the seed is another clone than before\"",
		    log_quote(to));
}

static void set_aside(const struct depot *k)
{
	set_aside_one(k->own);
	set_aside_one(k->dir);
}

/* Where history ends is taken over with a session's branches. What another session said of it is forgotten. */
static void reset_shallow(const struct depot *k)
{
	AUTO_STR path = str_printf("%s/shallow", k->own);

	unlink(path);
	copy_text(k->dir, k->own, "shallow");
}

static int refresh(struct depot *k, const struct seed *seed, struct why *why)
{
	int rc = put_config(k->dir, seed, why);

	reset_shallow(k);

	if (rc == OK)
		rc = put_config(k->own, seed, why);
	return rc == OK ? put_alternates(k, seed, why) : rc;
}

static char *path_of(const char *repos_dir, const struct seed *seed, const char *ending)
{
	char hash[SHA256_HEX_LEN];

	sha256_hex(seed->top, strlen(seed->top), hash);
	hash[16] = '\0';
	return str_printf("%s/%s%s", repos_dir, hash, ending);
}

char *depot_path(const char *repos_dir, const struct seed *seed)
{
	return path_of(repos_dir, seed, ".git");
}

int depot_open(const char *repos_dir, const struct seed *seed, struct depot *ret, struct why *why)
{
	AUTO_STR head = NULL;
	AUTO_STR mark = seed_mark(seed);
	AUTO_STR from = str_printf("%s/info", seed->common_dir);
	AUTO_STR info = NULL;
	int rc;

	ENSURE(seed->is_repo);
	*ret = (struct depot){.dir = depot_path(repos_dir, seed), .own = path_of(repos_dir, seed, "-own.git")};
	head = str_printf("%s/HEAD", ret->dir);
	info = str_printf("%s/info", ret->own);
	if (access(head, F_OK) == 0 && !is_of_this_clone(ret, mark))
		set_aside(ret);
	rc = access(head, F_OK) == 0 ? refresh(ret, seed, why) : create(ret, seed, mark, why);
	if (rc == OK)
		rc = put_hooks(ret, seed, why);
	if (rc == OK)
		copy_text(from, info, "exclude");
	return rc;
}

void depot_fini(struct depot *k)
{
	str_free(&k->dir);
	str_free(&k->own);
	str_free(&k->hooks);
	str_free(&k->session_hooks);
}

static struct git outside(const char *dir, const struct git *like)
{
	struct git g = *like;

	g.dir = g.git_dir = dir;
	g.work_tree = g.index = NULL;
	g.hooks = NULL;
	g.input = NULL;
	g.box = NULL;
	return g;
}

struct git depot_git(const struct depot *k, const struct git *like)
{
	return outside(k->own, like);
}

struct git depot_git_origin(const struct depot *k, const struct git *like)
{
	return outside(k->dir, like);
}

char *depot_ref(const struct depot *k, const struct git *g, const char *ref)
{
	struct git own = depot_git(k, g);
	AUTO_STR commit = str_printf("%s^{commit}", ref);
	char *sha = NULL;

	own.said = NULL;
	if (git_must(&own, GIT_ARGS("rev-parse", "-q", "--verify", commit), &sha, NULL) != OK)
		sha = str_dup("");
	return sha;
}
