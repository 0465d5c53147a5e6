#include "agent/session/git.h"
#include "agent/session/exec.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAX_ARGS 96
#define MAX_BYTES (16 * 1024 * 1024)

/* A worker started from a hook of git inherits variables that would point git elsewhere. */
static const char *const git_env[] = {"GIT_TERMINAL_PROMPT=0", "GIT_ASKPASS=false", "SSH_ASKPASS=false",
    "SSH_ASKPASS_REQUIRE=never", "GCM_INTERACTIVE=never", "GIT_EDITOR=true", "GIT_SEQUENCE_EDITOR=true",
    "GIT_MERGE_AUTOEDIT=no", "LC_ALL=C", "LANGUAGE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY", "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_NAMESPACE",
    "GIT_CEILING_DIRECTORIES", "GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL", "GIT_AUTHOR_DATE", "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL", "GIT_COMMITTER_DATE", "GIT_EXTERNAL_DIFF", "GIT_DIFF_OPTS", "GIT_LITERAL_PATHSPECS",
    "GIT_TRACE", "GIT_TRACE2", NULL};

static void chomp(char *s)
{
	ENSURE(s != NULL);
	size_t n = strlen(s);

	while (n > 0 && (s[n - 1] == '\n' || s[n - 1] == '\r'))
		s[--n] = '\0';
}

void git_out_fini(struct git_out *o)
{
	str_free(&o->out);
	str_free(&o->err);
}

int git_interrupted(const struct git *g, struct why *why)
{
	struct pollfd p = {g->cancel_fd, POLLIN, 0};

	if (g->cancel_fd > 0 && poll(&p, 1, 0) > 0)
		return why_set(why, ERR_CANCELLED, "cancelled");
	if (g->deadline_mono_ms > 0 && clock_mono_ms() >= g->deadline_mono_ms)
		return why_set(why, ERR_TIMEOUT, "preparing or publishing the workspace took too long");
	return OK;
}

/* What a repository's own configuration must not decide. On the command line it stands above every file. */
static const char *const fixed_config[] = {"core.quotePath=false", "advice.detachedHead=false", "color.ui=false",
    "maintenance.auto=false", "gc.auto=0", "core.fsmonitor=false", "core.safecrlf=false", "core.pager=cat",
    "commit.gpgSign=false", "protocol.ext.allow=never", "safe.directory=*", "submodule.recurse=false",
    "fetch.recurseSubmodules=false", "push.recurseSubmodules=no", "push.followTags=false",
    "fetch.writeCommitGraph=false"};

/* Strings that live as long as the command. */
struct command_line {
	const char *argv[MAX_ARGS];
	size_t n;
	char *hooks;
	char *set[3]; /* variables of our own */
	const char *env[ARRAY_LEN(git_env) + 3];
};

static void command_line_fini(struct command_line *c)
{
	str_free(&c->hooks);
	for (size_t i = 0; i < ARRAY_LEN(c->set); i++)
		str_free(&c->set[i]);
}

static void add_arg(struct command_line *c, const char *arg)
{
	ENSURE(c->n < MAX_ARGS - 1);
	c->argv[c->n++] = arg;
}

/* A variable is set or left to be unset, never inherited. */
static void compose_env(struct command_line *c, const struct git *g)
{
	const struct {
		const char *name, *value;
	} own[] = {{"GIT_DIR", g->git_dir}, {"GIT_WORK_TREE", g->work_tree}, {"GIT_INDEX_FILE", g->index}};
	size_t n = 0;

	for (size_t i = 0; git_env[i] != NULL; i++) {
		bool set = false;

		for (size_t k = 0; k < ARRAY_LEN(own); k++)
			set |= own[k].value != NULL && strcmp(own[k].name, git_env[i]) == 0;
		if (!set)
			c->env[n++] = git_env[i];
	}
	for (size_t k = 0; k < ARRAY_LEN(own); k++)
		if (own[k].value != NULL)
			c->env[n++] = c->set[k] = str_printf("%s=%s", own[k].name, own[k].value);
}

static void compose(struct command_line *c, const struct git *g, const char *const *args)
{
	add_arg(c, "git");
	for (size_t i = 0; i < ARRAY_LEN(fixed_config); i++) {
		add_arg(c, "-c");
		add_arg(c, fixed_config[i]);
	}
	c->hooks = str_printf("core.hooksPath=%s", g->hooks != NULL ? g->hooks : "/dev/null");
	add_arg(c, "-c");
	add_arg(c, c->hooks);
	for (size_t i = 0; args[i] != NULL; i++)
		add_arg(c, args[i]);
	compose_env(c, g);
}

static int open_input(const struct git *g, struct why *why)
{
	int fd = memfd_create("input", MFD_CLOEXEC);

	if (fd < 0 || write(fd, g->input, g->input_len) != (ssize_t)g->input_len || lseek(fd, 0, SEEK_SET) != 0) {
		if (fd >= 0)
			close(fd);
		return why_set(why, ERR_IO, "cannot hand names to git: %s", strerror(errno));
	}
	return fd;
}

static void take_bytes(void *ctx, int stream, const void *data, size_t len)
{
	if (stream == 1)
		strbuf_add(ctx, data, len);
}

/* bytes: where standard output goes as it comes; NULL: it is text. */
static int run(const struct git *g, const char *const *args, struct strbuf *bytes, struct git_out *ret, struct why *why)
{
	AUTO_FINI(command_line) c = {.n = 0};
	struct exec_result r;
	int rc = git_interrupted(g, why), dir, in = 0;

	if (rc != OK)
		return rc;
	dir = open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return why_set(why, err_from_errno(errno), "cannot open '%.200s': %s", g->dir, strerror(errno));
	if (g->input != NULL && (in = open_input(g, why)) < 0) {
		close(dir);
		return ERR_IO;
	}
	compose(&c, g, args);
	rc = exec_run(&EXEC_SPEC(.argv = c.argv, .box = g->box, .cwd_fd = dir, .stdin_fd = in, .env = c.env,
			  .agent_id = g->agent_id, .scratch_dir = g->scratch_dir, .cancel_fd = g->cancel_fd,
			  .deadline_mono_ms = g->deadline_mono_ms, .on_output = bytes != NULL ? take_bytes : NULL,
			  .on_output_ctx = bytes),
	    &r, why);
	close(dir);
	if (in > 0)
		close(in);
	if (rc != OK)
		return rc;
	if (r.cancelled)
		rc = why_set(why, ERR_CANCELLED, "cancelled");
	else if (r.timed_out)
		rc = why_set(why, ERR_TIMEOUT, "git %s took too long", args[0]);
	else
		*ret = (struct git_out){.status = r.exit_code, .out = TAKE(r.out), .err = TAKE(r.err)};
	if (rc != OK && g->said != NULL) {
		free(*g->said);
		*g->said = git_said(r.err);
	}
	exec_result_fini(&r);
	return rc;
}

int git_run(const struct git *g, const char *const *args, struct git_out *ret, struct why *why)
{
	int rc = run(g, args, NULL, ret, why);

	if (rc == OK) {
		ENSURE(ret->out != NULL);
		chomp(ret->out);
		ret->out_len = strlen(ret->out);
	}
	return rc;
}

int git_run_bytes(const struct git *g, const char *const *args, struct git_out *ret, struct why *why)
{
	struct strbuf b = STRBUF(MAX_BYTES);
	int rc = run(g, args, &b, ret, why);

	if (rc == OK && b.overflowed) {
		git_out_fini(ret);
		rc = why_set(why, ERR_TOO_LARGE, "git %s says more than %d MiB", args[0], MAX_BYTES >> 20);
	}
	if (rc == OK) {
		free(ret->out);
		ret->out_len = b.len;
		ret->out = strbuf_take(&b);
	}
	strbuf_fini(&b);
	return rc;
}

int git_failed(const struct git *g, const char *const *args, const struct git_out *o, struct why *why)
{
	/* git-lfs says what is wrong on standard output. */
	const char *words = o->err[0] != '\0' ? o->err : o->out;
	AUTO_STR reason = git_reason(words);

	if (g->said != NULL) {
		free(*g->said);
		*g->said = git_said(words);
	}
	while (strcmp(args[0], "-c") == 0)
		args += 2;
	return why_set(why,
	    strstr(o->err, "No space left on device") != NULL ? ERR_NO_SPACE
	    : git_is_machines_fault(o->err)		      ? ERR_NET
							      : ERR_INVALID,
	    "git %s failed: %s", args[0], reason[0] ? reason : "no reason given");
}

int git_must(const struct git *g, const char *const *args, char **ret_out, struct why *why)
{
	AUTO_FINI(git_out) o = {0};
	int rc = git_run(g, args, &o, why);

	if (rc != OK)
		return rc;
	if (o.status != 0)
		return git_failed(g, args, &o, why);
	if (ret_out != NULL)
		*ret_out = TAKE(o.out);
	return OK;
}

bool git_says_yes(const struct git *g, const char *const *args)
{
	AUTO_FINI(git_out) o = {0};

	return git_run(g, args, &o, NULL) == OK && o.status == 0;
}

bool git_ref_is_sound(const char *name)
{
	return text_is_git_ref(name) && strcmp(name, "HEAD") != 0;
}

bool git_is_sha(const char *s)
{
	size_t n = strlen(s);

	return n >= 7 && n <= 64 && strspn(s, "0123456789abcdefABCDEF") == n;
}
