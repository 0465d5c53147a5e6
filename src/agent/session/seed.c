#include "agent/session/seed.h"
#include "agent/session/exec.h"
#include "agent/session/git.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GIT_LIMIT_MS 20000

static bool has_git(const char *dir)
{
	AUTO_STR git = str_printf("%s/.git", dir);

	return access(git, F_OK) == 0;
}

/* The way a person's own git looks at the folder: also whether it trusts its owner. */
static int ask(const char *dir, const char *const *args, struct exec_result *r, struct why *why)
{
	static const char *const env[] = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_COMMON_DIR", "GIT_PREFIX",
	    "LC_ALL=C", "LANGUAGE", "GIT_TERMINAL_PROMPT=0", "GIT_OPTIONAL_LOCKS=0", NULL};
	const char *argv[16] = {"git", "-C", dir, "-c", "core.fsmonitor=false"};
	size_t n = 5;

	for (size_t i = 0; args[i] != NULL && n < ARRAY_LEN(argv) - 1; i++)
		argv[n++] = args[i];
	return exec_run(&EXEC_SPEC(.argv = argv, .env = env, .call_id = "start",
			    .deadline_mono_ms = clock_mono_ms() + GIT_LIMIT_MS),
	    r, why);
}

/* The n-th line, malloc'ed. */
static char *line_of(const char *text, int n)
{
	while (n-- > 0) {
		const char *nl = strchr(text, '\n');

		if (nl == NULL)
			return str_dup("");
		text = nl + 1;
	}
	return str_ndup(text, strcspn(text, "\n"));
}

static int explain(const char *root, const struct exec_result *r, struct why *why)
{
	AUTO_STR reason = git_reason(r->err);

	if (strstr(r->err, "dubious ownership") != NULL)
		return why_set(why, ERR_DENIED,
		    "%.250s belongs to another user, so git does not use it; if that is right, run: git config "
		    "--global "
		    "--add safe.directory %.250s",
		    root, root);
	return why_set(why, ERR_INVALID, "%.250s is not a sound git checkout: %.200s", root, reason);
}

static int64_t stamp_of(const char *path)
{
	struct stat st;

	if (stat(path, &st) != 0)
		return 0;
	return (int64_t)st.st_mtim.tv_sec * 1000000007 + st.st_mtim.tv_nsec + (int64_t)st.st_ino * 31 + st.st_size;
}

static int64_t config_stamp(const struct seed *s)
{
	AUTO_STR config = str_printf("%s/config", s->common_dir);
	AUTO_STR worktree = str_printf("%s/config.worktree", s->git_dir);

	return stamp_of(config) ^ (stamp_of(worktree) * 3);
}

static bool knows(const struct git *g, const char *key)
{
	return git_says_yes(g, GIT_ARGS("config", "--get", key));
}

static int read_config(struct seed *s, int cancel_fd, struct why *why)
{
	AUTO_FINI(seed_config) c = {0};
	struct git g = {.dir = s->source,
	    .git_dir = s->git_dir,
	    .work_tree = s->source,
	    .cancel_fd = cancel_fd,
	    .deadline_mono_ms = clock_mono_ms() + GIT_LIMIT_MS};
	AUTO_FINI(git_out) o = {0};
	AUTO_FINI(git_out) own = {0};
	bool has_name, has_email;
	int64_t stamp = config_stamp(s); /* if it is written meanwhile, it is read again */
	int rc = git_run_bytes(&g, GIT_ARGS("config", "--local", "--includes", "--null", "--list"), &o, why);

	if (rc == OK && o.status != 0)
		rc = git_failed(&g, GIT_ARGS("config"), &o, why);
	if (rc != OK)
		return rc;
	seed_config_add(&c, o.out, o.out_len);
	if (c.worktree_config &&
	    git_run_bytes(&g, GIT_ARGS("config", "--worktree", "--includes", "--null", "--list"), &own, NULL) == OK &&
	    own.status == 0)
		seed_config_add(&c, own.out, own.out_len);
	has_name = knows(&g, "user.name");
	has_email = getenv("EMAIL") != NULL || knows(&g, "user.email");
	rc = git_interrupted(&g, why);
	if (rc != OK)
		return rc;
	s->config_stamp = stamp;
	str_set(&s->config, c.text);
	str_set(&s->url, c.url);
	str_set(&s->hooks_path, c.hooks_path);
	str_set(&s->object_format, c.object_format != NULL ? c.object_format : "sha1");
	s->sparse = c.sparse;
	s->has_user_name = has_name;
	s->has_user_email = has_email;
	return OK;
}

static int read_repository(struct seed *s, const char *answer, struct why *why)
{
	AUTO_STR shallow = line_of(answer, 4);

	s->is_repo = true;
	free(s->top);
	s->top = line_of(answer, 1);
	s->git_dir = line_of(answer, 2);
	s->common_dir = line_of(answer, 3);
	s->is_shallow = strcmp(shallow, "true") == 0;
	str_set(&s->source, s->top);
	free(s->sub);
	if (strcmp(s->root, s->top) == 0)
		s->sub = str_dup("");
	else if (text_has_prefix(s->root, s->top) && s->root[strlen(s->top)] == '/')
		s->sub = str_dup(s->root + strlen(s->top) + 1);
	else
		return why_set(why, ERR_INVALID, "git takes '%.200s' for a part of '%.200s'", s->root, s->top);
	return read_config(s, -1, why);
}

int seed_read(const char *root, struct seed *ret, struct why *why)
{
	struct exec_result r = {0};
	int rc;

	*ret = (struct seed){.root = str_dup(root), .top = str_dup(root), .sub = str_dup(""), .source = str_dup(root)};
	rc = ask(root,
	    GIT_ARGS("rev-parse", "--path-format=absolute", "--is-inside-work-tree", "--show-toplevel",
		"--absolute-git-dir", "--git-common-dir", "--is-shallow-repository"),
	    &r, why);
	if (rc != OK)
		return has_git(root)
			   ? why_set(why, ERR_NOT_FOUND, "%.300s is a git checkout, but git cannot be started", root)
			   : OK;
	if (r.timed_out)
		rc = why_set(why, ERR_TIMEOUT, "git does not answer in '%.300s'", root);
	else if (r.exit_code == 0)
		rc = read_repository(ret, r.out, why);
	else if (strstr(r.err, "dubious ownership") != NULL || has_git(root))
		rc = explain(root, &r, why);
	exec_result_fini(&r);
	return rc;
}

int seed_refresh(struct seed *s, int cancel_fd, struct why *why)
{
	if (!s->is_repo || s->config_stamp == config_stamp(s))
		return OK;
	return read_config(s, cancel_fd, why);
}

/* Below top: below the other name. */
static void move_path(char **path, const char *top, const char *source)
{
	size_t n = strlen(top);

	if (strncmp(*path, top, n) != 0 || ((*path)[n] != '/' && (*path)[n] != '\0'))
		return;
	char *moved = str_printf("%s%s", source, *path + n);

	free(*path);
	*path = moved;
}

void seed_move(struct seed *s, const char *source)
{
	if (s->is_repo) {
		move_path(&s->git_dir, s->top, source);
		move_path(&s->common_dir, s->top, source);
	}
	str_set(&s->source, source);
}

char *seed_head(const struct seed *s)
{
	struct git g = {.dir = s->source,
	    .git_dir = s->git_dir,
	    .work_tree = s->source,
	    .deadline_mono_ms = clock_mono_ms() + GIT_LIMIT_MS};
	char *head = NULL;

	if (git_must(&g, GIT_ARGS("rev-parse", "-q", "--verify", "HEAD^{commit}"), &head, NULL) != OK)
		head = str_dup("");
	return head;
}

void seed_fini(struct seed *s)
{
	str_free(&s->root);
	str_free(&s->top);
	str_free(&s->sub);
	str_free(&s->git_dir);
	str_free(&s->common_dir);
	str_free(&s->url);
	str_free(&s->config);
	str_free(&s->hooks_path);
	str_free(&s->object_format);
	str_free(&s->source);
}
