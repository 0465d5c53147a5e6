#include "agent/session/exec.h"
#include "agent/box/box.h"
#include "agent/session/keep.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define READ_BYTES (64 * 1024)
/* From the end of the program to the end of its output, which a child in the background may keep open. */
#define QUIET_MS 200
#define LINGER_MS 2000
#define KILL_TERM_MS 1000
#define KILL_AFTER_TERM_MS 900
/* One argument with its end: MAX_ARG_STRLEN of the kernel. */
#define COMMAND_ARG_MAX (128 * 1024 - 1)

struct running {
	const struct exec_spec *spec;
	char *mark;
	char *script; /* file of a command that is too long for an argument; NULL: none */
	char *buf;
	int64_t deadline_mono_ms;
	pid_t pid;
	int end_fd; /* readable at its end: in a box its status, otherwise its pidfd; -1: the kernel has none */
	int fd[2]; /* stdout, stderr; -1 once at their end */
	bool exited;
	int status;
	struct keep out, err, both;
};

const char *exec_shell_name(void)
{
	return access("/bin/bash", X_OK) == 0 || access("/usr/bin/bash", X_OK) == 0 ||
		       access("/usr/local/bin/bash", X_OK) == 0
		   ? "bash"
		   : "sh";
}

static void plan_files(posix_spawn_file_actions_t *fa, const struct exec_spec *spec, int out_fd, int err_fd)
{
	ENSURE(posix_spawn_file_actions_init(fa) == 0);
	if (spec->cwd_fd > 0)
		ENSURE(posix_spawn_file_actions_addfchdir_np(fa, spec->cwd_fd) == 0);
	if (spec->stdin_fd > 0)
		ENSURE(posix_spawn_file_actions_adddup2(fa, spec->stdin_fd, 0) == 0);
	else
		ENSURE(posix_spawn_file_actions_addopen(fa, 0, "/dev/null", O_RDONLY, 0) == 0);
	ENSURE(posix_spawn_file_actions_adddup2(fa, out_fd, 1) == 0);
	ENSURE(posix_spawn_file_actions_adddup2(fa, err_fd, 2) == 0);
	ENSURE(posix_spawn_file_actions_addclosefrom_np(fa, 3) == 0);
}

static void plan_signals(posix_spawnattr_t *attr)
{
	sigset_t all, none;

	ENSURE(posix_spawnattr_init(attr) == 0);
	sigfillset(&all);
	sigemptyset(&none);
	posix_spawnattr_setsigdefault(attr, &all);
	posix_spawnattr_setsigmask(attr, &none);
	posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSID | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

/* posix_spawn and not fork: the process has threads, and glibc's needs no memory of the parent's. */
static int start_outside(const struct exec_spec *spec, const char *const *argv, char **env, int out_fd, int err_fd,
    pid_t *ret_pid, struct why *why)
{
	posix_spawn_file_actions_t fa;
	posix_spawnattr_t attr;
	int rc;

	plan_files(&fa, spec, out_fd, err_fd);
	plan_signals(&attr);
	rc = posix_spawnp(ret_pid, argv[0], &fa, &attr, (char *const *)argv, env);
	posix_spawnattr_destroy(&attr);
	posix_spawn_file_actions_destroy(&fa);
	if (rc != 0)
		return why_set(why, err_from_errno(rc), "cannot run '%.100s': %s", argv[0], strerror(rc));
	return OK;
}

static int start_argv(const struct exec_spec *spec, const char *const *argv, char **env, int out_fd, int err_fd,
    pid_t *ret_pid, int *ret_end_fd, struct why *why)
{
	int rc;

	if (spec->box != NULL)
		return box_spawn(spec->box,
		    &(struct box_spawn){.argv = argv,
			.env = env,
			.cwd = spec->cwd,
			.cwd_fd = spec->cwd_fd,
			.stdin_fd = spec->stdin_fd,
			.out_fd = out_fd,
			.err_fd = err_fd,
			.ret_inner_pid = spec->ret_inner_pid},
		    ret_pid, ret_end_fd, why);
	rc = start_outside(spec, argv, env, out_fd, err_fd, ret_pid, why);
	if (rc == OK)
		*ret_end_fd = (int)syscall(SYS_pidfd_open, *ret_pid, 0);
	return rc;
}

static int write_all(int fd, const char *text, size_t len)
{
	for (size_t at = 0; at < len;) {
		ssize_t n = write(fd, text + at, len - at);

		if (n < 0 && errno != EINTR)
			return err_from_errno(errno);
		at += n > 0 ? (size_t)n : 0;
	}
	return OK;
}

/* The kernel takes no argument of 128 KiB or more; a shell reads a file of any length. */
static int write_script(const struct exec_spec *spec, char **ret, struct why *why)
{
	char id[UUID_LEN];
	AUTO_STR path = NULL;
	int fd, rc;

	if (spec->scratch_dir == NULL)
		return why_set(why, ERR_TOO_LARGE, "the command has %zu bytes; at most %d are possible here",
		    strlen(spec->command), COMMAND_ARG_MAX);
	id_uuid(id);
	path = str_printf("%s/command-%s", spec->scratch_dir, id);
	fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return why_set(why, err_from_errno(errno), "cannot create '%.300s': %s", path, strerror(errno));
	rc = write_all(fd, spec->command, strlen(spec->command));
	close(fd);
	if (rc != OK) {
		unlink(path);
		return why_set(why, rc, "cannot write the command to '%.300s'", path);
	}
	*ret = TAKE(path);
	return OK;
}

static int exec_start(const struct exec_spec *spec, const char *mark, int out_fd, int err_fd, char **ret_script,
    pid_t *ret_pid, int *ret_end_fd, struct why *why)
{
	const char *shell[] = {exec_shell_name(), "-c", spec->command, NULL};
	const char *const *argv = spec->argv != NULL ? spec->argv : shell;
	char **env;
	int rc = OK;

	if (spec->argv == NULL && strlen(spec->command) > COMMAND_ARG_MAX) {
		rc = write_script(spec, ret_script, why);
		shell[1] = *ret_script;
		shell[2] = NULL;
	}
	if (rc != OK)
		return rc;
	env = exec_env_new(spec, mark);
	rc = start_argv(spec, argv, env, out_fd, err_fd, ret_pid, ret_end_fd, why);
	if (rc == ERR_NOT_FOUND && spec->argv == NULL) {
		shell[0] = "/bin/sh";
		rc = start_argv(spec, argv, env, out_fd, err_fd, ret_pid, ret_end_fd, why);
	}
	exec_env_free(&env);
	return rc;
}

static char *mark_new(const struct exec_spec *spec)
{
	char uuid[UUID_LEN];

	id_uuid(uuid);
	return str_printf("CURSOR_AGENT_CALL=%s.%s", spec->call_id != NULL ? spec->call_id : "", uuid);
}

static void close_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int start_piped(struct running *r, struct why *why)
{
	int out[2] = {-1, -1}, err[2] = {-1, -1};
	int rc;

	if (pipe2(out, O_CLOEXEC) != 0 || pipe2(err, O_CLOEXEC) != 0)
		rc = why_set(why, err_from_errno(errno), "cannot make a pipe: %s", strerror(errno));
	else
		rc = exec_start(r->spec, r->mark, out[1], err[1], &r->script, &r->pid, &r->end_fd, why);
	close_fd(&out[1]);
	close_fd(&err[1]);
	if (rc != OK) {
		close_fd(&out[0]);
		close_fd(&err[0]);
		return rc;
	}
	r->fd[0] = out[0];
	r->fd[1] = err[0];
	for (int i = 0; i < 2; i++)
		fcntl(r->fd[i], F_SETFL, O_NONBLOCK);
	return OK;
}

/* One read; true if there was something. */
static bool read_some(struct running *r, int i)
{
	ssize_t n;

	if (r->fd[i] < 0)
		return false;
	n = read(r->fd[i], r->buf, READ_BYTES);
	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		close_fd(&r->fd[i]);
	if (n <= 0)
		return false;
	if (!r->spec->service) {
		keep_add(i == 0 ? &r->out : &r->err, r->buf, (size_t)n);
		keep_add(&r->both, r->buf, (size_t)n);
	}
	if (r->spec->on_output != NULL)
		r->spec->on_output(r->spec->on_output_ctx, i + 1, r->buf, (size_t)n);
	return true;
}

static bool reap(struct running *r)
{
	if (r->exited)
		return true;
	if (r->spec->box != NULL)
		r->exited = box_status(r->end_fd, &r->status) == OK;
	else
		r->exited = waitpid(r->pid, &r->status, WNOHANG) == r->pid;
	return r->exited;
}

static int wait_ms(const struct running *r, int64_t until)
{
	int64_t now = clock_mono_ms(), ms = MIN(MAX(until - now, 0), 60000);

	if (!r->exited && r->end_fd < 0)
		ms = MIN(ms, 20);
	return (int)ms;
}

enum ending { ENDED, TIMED_OUT, CANCELLED, STOPPED };

static enum ending follow(struct running *r)
{
	int64_t quiet_at = INT64_MAX, linger_at = INT64_MAX;

	for (;;) {
		struct pollfd p[4] = {{r->fd[0], POLLIN, 0}, {r->fd[1], POLLIN, 0},
		    {r->exited ? -1 : r->end_fd, POLLIN, 0},
		    {r->spec->cancel_fd > 0 ? r->spec->cancel_fd : -1, POLLIN, 0}};
		int64_t until = MIN(MIN(quiet_at, linger_at), r->deadline_mono_ms), now;
		bool some = false;

		poll(p, ARRAY_LEN(p), wait_ms(r, until));
		for (int i = 0; i < 2; i++)
			some |= p[i].revents != 0 && read_some(r, i);
		now = clock_mono_ms();
		if (p[3].revents != 0)
			return CANCELLED;
		if (r->spec->stop != NULL && *r->spec->stop)
			return STOPPED;
		if (!r->exited && reap(r)) {
			linger_at = now + (r->spec->linger_ms > 0 ? r->spec->linger_ms : LINGER_MS);
			some = true;
		}
		if (r->exited && some)
			quiet_at = now + QUIET_MS;
		if (r->exited && ((r->fd[0] < 0 && r->fd[1] < 0) || now >= MIN(quiet_at, linger_at)))
			return ENDED;
		if (now >= r->deadline_mono_ms)
			return r->exited ? ENDED : TIMED_OUT;
	}
}

static void put_down(struct running *r, enum ending how)
{
	int term_ms = r->spec->term_ms > 0 ? r->spec->term_ms : KILL_TERM_MS;

	exec_kill_all(r->mark, r->exited ? 0 : r->pid, how == STOPPED ? 0 : term_ms, term_ms + KILL_AFTER_TERM_MS);
	/* A process in uninterruptible sleep can outlive a KILL; it is left to itself. */
	for (int i = 0; !reap(r) && i < 10; i++)
		poll(NULL, 0, 10);
	for (int i = 0; how != STOPPED && i < 64; i++) {
		bool some = read_some(r, 0);

		some |= read_some(r, 1);
		if (!some)
			break;
	}
}

static void fill_result(struct running *r, enum ending how, int64_t started, struct exec_result *ret)
{
	*ret = (struct exec_result){.timed_out = how == TIMED_OUT,
	    .cancelled = how == CANCELLED,
	    .truncated = keep_truncated(&r->out) || keep_truncated(&r->err),
	    .out = keep_text(&r->out),
	    .err = keep_text(&r->err),
	    .both = keep_text(&r->both),
	    .duration_ms = clock_mono_ms() - started};
	if (!r->exited)
		ret->signal = SIGKILL;
	else if (WIFSIGNALED(r->status))
		ret->signal = WTERMSIG(r->status);
	ret->exit_code = ret->signal != 0 ? 128 + ret->signal : WEXITSTATUS(r->status);
}

static void forget_script(struct running *r)
{
	if (r->script != NULL)
		unlink(r->script);
	str_free(&r->script);
}

int exec_run(const struct exec_spec *spec, struct exec_result *ret, struct why *why)
{
	struct running r = {.spec = spec, .end_fd = -1, .fd = {-1, -1}, .mark = mark_new(spec)};
	int64_t started = clock_mono_ms();
	enum ending how;
	int rc;

	r.deadline_mono_ms = spec->deadline_mono_ms > 0 ? spec->deadline_mono_ms : INT64_MAX;
	rc = start_piped(&r, why);
	if (rc != OK) {
		forget_script(&r);
		str_free(&r.mark);
		return rc;
	}
	r.buf = mem_alloc(READ_BYTES);
	keep_init(&r.out, spec->service ? 0 : EXEC_OUT_MAX);
	keep_init(&r.err, spec->service ? 0 : EXEC_ERR_MAX);
	keep_init(&r.both, spec->service ? 0 : EXEC_BOTH_MAX);
	how = follow(&r);
	if (how != ENDED || spec->service)
		put_down(&r, how);
	fill_result(&r, how, started, ret);
	for (int i = 0; i < 2; i++)
		close_fd(&r.fd[i]);
	close_fd(&r.end_fd);
	keep_fini(&r.out);
	keep_fini(&r.err);
	keep_fini(&r.both);
	free(r.buf);
	forget_script(&r);
	str_free(&r.mark);
	return OK;
}

int exec_background(const struct exec_spec *spec, int log_fd, pid_t *ret_pid, struct why *why)
{
	AUTO_STR mark = mark_new(spec);
	AUTO_STR script = NULL; /* stays for as long as the scratch folder: the shell reads on while it runs */
	struct exec_spec copy = *spec;
	pid_t inner = 0;
	int end_fd = -1, rc;

	copy.ret_inner_pid = &inner;
	rc = exec_start(&copy, mark, log_fd, log_fd, &script, ret_pid, &end_fd, why);
	if (rc == OK && spec->ret_end_fd != NULL && end_fd > 0)
		*spec->ret_end_fd = end_fd;
	else
		close_fd(&end_fd);
	if (rc == OK && spec->box != NULL)
		*ret_pid = inner;
	return rc;
}

void exec_result_fini(struct exec_result *r)
{
	str_free(&r->out);
	str_free(&r->err);
	str_free(&r->both);
}
