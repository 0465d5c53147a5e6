#include "agent/worker/git.h"
#include "agent/worker/exec.h"
#include "base/repo_url.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>

#define MAX_ARGS 32
#define MAX_REF_BYTES 255

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

int git_run(const struct git *g, const char *const *args, struct git_out *ret, struct why *why)
{
	/* No housekeeping that would go on in the background after the command. */
	const char *argv[MAX_ARGS] = {"git", "-c", "core.quotePath=false", "-c", "advice.detachedHead=false", "-c",
	    "color.ui=false", "-c", "maintenance.auto=false", "-c", "gc.auto=0"};
	struct exec_result r;
	size_t n = 11;
	int rc = git_interrupted(g, why), dir;

	if (rc != OK)
		return rc;
	dir = open(g->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		return why_set(why, err_from_errno(errno), "cannot open '%.200s': %s", g->dir, strerror(errno));
	for (size_t i = 0; args[i] != NULL; i++) {
		ENSURE(n < MAX_ARGS - 1);
		argv[n++] = args[i];
	}
	rc = exec_run(
	    &EXEC_SPEC(.argv = argv, .cwd_fd = dir, .env = git_env, .agent_id = g->agent_id,
		.scratch_dir = g->scratch_dir, .cancel_fd = g->cancel_fd, .deadline_mono_ms = g->deadline_mono_ms),
	    &r, why);
	close(dir);
	if (rc != OK)
		return rc;
	if (r.cancelled)
		rc = why_set(why, ERR_CANCELLED, "cancelled");
	else if (r.timed_out)
		rc = why_set(why, ERR_TIMEOUT, "git %s took too long", args[0]);
	else
		*ret = (struct git_out){.status = r.exit_code, .out = TAKE(r.out), .err = TAKE(r.err)};
	exec_result_fini(&r);
	if (rc == OK)
		chomp(ret->out);
	return rc;
}

int git_must(const struct git *g, const char *const *args, char **ret_out, struct why *why)
{
	AUTO_FINI(git_out) o = {0};
	int rc = git_run(g, args, &o, why);

	if (rc != OK)
		return rc;
	if (o.status != 0) {
		AUTO_STR reason = git_reason(o.err);

		while (strcmp(args[0], "-c") == 0)
			args += 2;
		return why_set(why, ERR_INVALID, "git %s failed: %s", args[0], reason[0] ? reason : "no reason given");
	}
	if (ret_out != NULL)
		*ret_out = TAKE(o.out);
	return OK;
}

bool git_says_yes(const struct git *g, const char *const *args)
{
	AUTO_FINI(git_out) o = {0};

	return git_run(g, args, &o, NULL) == OK && o.status == 0;
}

/* Lines that matter, most telling first: a refused ref, what the remote said, git's own verdict, the last one. */
struct telling {
	char *refused, *remote, *verdict, *last;
};

static void look_at(struct telling *t, const char *line)
{
	AUTO_STR text = text_trim(line);

	if (text[0] == '\0' || text_has_prefix(text, "hint:"))
		return;
	if (text_has_prefix(text, "! ["))
		str_set(&t->refused, text + 2);
	else if (text_has_prefix(text, "remote:") && !text_is_blank(text + 7))
		str_set(&t->remote, text);
	else if (text_has_prefix(text, "fatal: ") || text_has_prefix(text, "error: "))
		str_set(&t->verdict, text + 7);
	str_set(&t->last, text);
}

char *git_reason(const char *err)
{
	struct telling t = {0};
	AUTO_STR best = NULL;
	char *ret;

	while (*err != '\0') {
		size_t n = strcspn(err, "\n");
		AUTO_STR line = str_ndup(err, n);

		look_at(&t, line);
		err += n + (err[n] == '\n');
	}
	if (t.refused != NULL)
		best = str_printf("%s%s%s", t.refused, t.remote != NULL ? "; " : "", t.remote != NULL ? t.remote : "");
	else
		best = str_dup(t.verdict != NULL ? t.verdict : t.last != NULL ? t.last : "");
	ret = repo_url_redact(best);
	str_free(&t.refused);
	str_free(&t.remote);
	str_free(&t.verdict);
	str_free(&t.last);
	return ret;
}

bool git_ref_is_sound(const struct git *g, const char *name)
{
	AUTO_STR full = NULL;

	if (name[0] == '\0' || name[0] == '-' || strlen(name) > MAX_REF_BYTES || strcmp(name, "HEAD") == 0)
		return false;
	full = str_printf("refs/heads/%s", name);
	return git_says_yes(g, GIT_ARGS("check-ref-format", full));
}

bool git_is_sha(const char *s)
{
	size_t n = strlen(s);

	return n >= 7 && n <= 64 && strspn(s, "0123456789abcdefABCDEF") == n;
}
