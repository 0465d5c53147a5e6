#include "agent/hooks/execute.h"
#include "agent/session/exec.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* A child in the background may keep its output open. */
#define WORDS_MAX 32
#define LINGER_MS 500
#define TERM_MS 2000

/* The payload as a file that is in no folder: who does not read it cannot hold anybody up. */
static int payload_fd(const char *text, struct why *why)
{
	size_t len = strlen(text), at = 0;
	int fd = memfd_create("hook", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	while (fd >= 0 && at < len) {
		ssize_t n = write(fd, text + at, len - at);

		if (n < 0 && errno != EINTR)
			break;
		at += n > 0 ? (size_t)n : 0;
	}
	if (fd < 0 || at < len || lseek(fd, 0, SEEK_SET) != 0) {
		int rc = why_set(why, err_from_errno(errno), "no memory for its input: %s", strerror(errno));

		if (fd >= 0)
			close(fd);
		return rc;
	}
	/* A hook cannot leave a word there for the next one. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	return fd;
}

struct taken {
	struct strbuf out, err;
};

static void take_output(void *ctx, int stream, const void *data, size_t len)
{
	struct taken *t = ctx;

	if (stream == 1)
		IGNORE(strbuf_add(&t->out, data, len));
	else
		IGNORE(strbuf_add(&t->err, data, MIN(len, t->err.max - t->err.len)));
}

static int open_dir(const struct hook_process *p, struct why *why)
{
	int fd;

	if (p->session != NULL && session_has_own_view(p->session))
		return 0;
	fd = open(p->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return why_set(why, ERR_NOT_FOUND, "its folder %.300s cannot be used: %s", p->dir, strerror(errno));
	return fd;
}

/* A command of plain words that begins with a path needs no shell, which would cost as much as a small hook itself. The
 * words are cut out of `text`. 0: it needs one. */
static size_t plain_words(char *text, const char *argv[WORDS_MAX + 1])
{
	char *save = NULL;
	size_t n = 0;

	if (strspn(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+,:@% ") != strlen(text) ||
	    memchr(text, '/', strcspn(text, " ")) == NULL)
		return 0;
	for (char *word = strtok_r(text, " ", &save); word != NULL; word = strtok_r(NULL, " ", &save)) {
		if (n == WORDS_MAX)
			return 0;
		argv[n++] = word;
	}
	argv[n] = NULL;
	return n;
}

static int execute(
    const struct hook_process *p, int stdin_fd, int dir_fd, struct taken *t, struct exec_result *r, struct why *why)
{
	struct session *s = p->session;
	AUTO_STR text = str_dup(p->command);
	const char *argv[WORDS_MAX + 1];

	/* It may change the workspace. */
	if (s != NULL)
		session_touch(s);
	struct exec_spec spec = EXEC_SPEC(.command = p->command, .cwd_fd = dir_fd, .cwd = p->dir, .stdin_fd = stdin_fd,
	    .box = s != NULL ? session_box(s) : NULL, .env = p->env, .agent_id = s != NULL ? session_agent_id(s) : NULL,
	    .scratch_dir = s != NULL ? session_program_mark(s) : NULL, .call_id = "hook", .cancel_fd = p->cancel_fd,
	    .deadline_mono_ms = clock_mono_ms() + p->limit_ms, .on_output = take_output, .on_output_ctx = t,
	    .linger_ms = LINGER_MS, .term_ms = TERM_MS);

	if (plain_words(text, argv) > 0) {
		spec.argv = argv;
		if (exec_run(&spec, r, why) == OK)
			return OK;
		/* A script without a first line that names its shell, or nothing there: the shell knows what to say. */
		spec.argv = NULL;
	}
	return exec_run(&spec, r, why);
}

static void fill(const struct hook_process *p, const struct exec_result *r, struct taken *t, struct hook_done *ret)
{
	struct hook_output *o = &ret->output;

	o->out_cut = t->out.overflowed;
	o->out_len = t->out.len;
	ret->out = strbuf_take(&t->out);
	ret->err = text_to_utf8(t->err.data != NULL ? t->err.data : "", t->err.len);
	ret->duration_ms = r->duration_ms;
	o->ending = r->timed_out ? HOOK_TIMED_OUT : r->signal != 0 ? HOOK_KILLED : HOOK_EXITED;
	o->code = r->signal != 0 ? r->signal : r->exit_code;
	o->limit_ms = p->limit_ms;
	if (r->cancelled) {
		o->ending = HOOK_NOT_STARTED;
		ret->reason = str_dup("the call was cancelled");
	}
}

void hook_execute(const struct hook_process *p, struct hook_done *ret)
{
	struct taken t = {.out = STRBUF(HOOK_OUT_MAX), .err = STRBUF(HOOK_ERR_MAX)};
	AUTO_FINI(exec_result) r = {0};
	struct why why = {""};
	int stdin_fd = payload_fd(p->payload, &why), dir_fd = stdin_fd >= 0 ? open_dir(p, &why) : -1;
	int rc = dir_fd >= 0 ? execute(p, stdin_fd, dir_fd, &t, &r, &why) : ERR_NOT_FOUND;

	*ret = (struct hook_done){0};
	if (rc == OK) {
		fill(p, &r, &t, ret);
	} else {
		ret->output.ending = HOOK_NOT_STARTED;
		ret->reason = str_dup(why.text);
		ret->out = str_dup("");
		ret->err = str_dup("");
	}
	ret->output.out = ret->out;
	ret->output.err = ret->err;
	ret->output.reason = ret->reason;
	strbuf_fini(&t.out);
	strbuf_fini(&t.err);
	if (stdin_fd >= 0)
		close(stdin_fd);
	if (dir_fd > 0)
		close(dir_fd);
}

void hook_done_fini(struct hook_done *d)
{
	str_free(&d->out);
	str_free(&d->err);
	str_free(&d->reason);
}
