/* The company's program: started without a shell, its output into the log. A thread for each reads until the end of the
 * output and then waits for the process, so that the main thread never does. */
#include "agent/controller/controller_priv.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES 2000
#define STACK_BYTES (256 * 1024)
#define FULL_SAID_MS 60000

extern char **environ;

struct running {
	struct mailbox *inbox;
	char *id, *worker_id, *last_line;
	pid_t pid;
	int fd;
};

/* The environment of the program: ours, without what the variables name, and they. The list is the caller's to free,
 * the texts made here too. */
struct environment {
	char **v, **made;
	size_t n, n_made;
};

static void environment_fini(struct environment *e)
{
	for (size_t i = 0; i < e->n_made; i++)
		free(e->made[i]);
	free(e->made);
	free(e->v);
}

static bool is_named(const char *entry, const struct hook_variable *v, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strlen(v[i].name);

		if (strncmp(entry, v[i].name, len) == 0 && entry[len] == '=')
			return true;
	}
	return false;
}

static void environment_make(struct environment *e, const struct hook_variable *v, size_t n)
{
	size_t have = 0;

	while (environ[have] != NULL)
		have++;
	e->v = mem_zalloc((have + n + 1) * sizeof *e->v);
	e->made = mem_zalloc((n + 1) * sizeof *e->made);
	for (size_t i = 0; i < have; i++)
		if (!is_named(environ[i], v, n))
			e->v[e->n++] = environ[i];
	for (size_t i = 0; i < n; i++)
		if (v[i].value != NULL)
			e->v[e->n++] = e->made[e->n_made++] = str_printf("%s=%s", v[i].name, v[i].value);
}

static void say_line(struct running *r, const char *line)
{
	AUTO_STR clean = text_line(line, LINE_MAX_BYTES);

	if (clean[0] == '\0')
		return;
	log_info("controller.hook.output", "id=%s line=%s", log_quote(r->id), log_quote(clean));
	str_set(&r->last_line, clean);
}

static void read_output(struct running *r)
{
	char buf[LINE_MAX_BYTES + 1];
	size_t n = 0;

	for (;;) {
		ssize_t got = read(r->fd, buf + n, LINE_MAX_BYTES - n);
		char *end;

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		n += (size_t)got;
		buf[n] = '\0';
		while ((end = memchr(buf, '\n', n)) != NULL || n == LINE_MAX_BYTES) {
			size_t len = end != NULL ? (size_t)(end - buf) : n;
			size_t taken = end != NULL ? len + 1 : len;

			buf[len] = '\0';
			say_line(r, buf);
			memmove(buf, buf + taken, n - taken);
			n -= taken;
		}
	}
	buf[n] = '\0';
	say_line(r, buf);
}

static void hook_thread(void *arg)
{
	struct running *r = arg;
	struct event *e = NEW(struct event);
	int status = 0;

	read_output(r);
	close(r->fd);
	while (waitpid(r->pid, &status, 0) < 0 && errno == EINTR)
		;
	*e = (struct event){.kind = EVENT_HOOK_ENDED,
	    .id = TAKE(r->id),
	    .worker_id = TAKE(r->worker_id),
	    .text = TAKE(r->last_line),
	    .status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status)};
	if (mailbox_post_always(r->inbox, e) != OK)
		event_free(e);
	mailbox_free(&r->inbox);
	free(r);
}

/* In a session of its own: what ends the controller shall not end the workers. Its signals are as if a shell had
 * started it. */
static int spawn_program(const char *path, char **env, int out, pid_t *ret)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attr;
	sigset_t none, all;
	char *const argv[] = {(char *)(uintptr_t)path, NULL};
	int err;

	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	posix_spawnattr_init(&attr);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, out, 1);
	posix_spawn_file_actions_adddup2(&files, out, 2);
	posix_spawnattr_setsigmask(&attr, &none);
	posix_spawnattr_setsigdefault(&attr, &all);
	posix_spawnattr_setflags(&attr, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSID);
	err = posix_spawn(ret, path, &files, &attr, argv, env);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attr);
	return err;
}

/* Programs that do not end are their owner's affair, for one may be the worker itself; but it must be seen. */
static void say_full(struct controller *c)
{
	int64_t now = clock_mono_ms();

	if (c->full_said_ms != 0 && now - c->full_said_ms < FULL_SAID_MS)
		return;
	c->full_said_ms = now;
	log_warn("controller.hooks.full",
	    "running=%u reason=\"as many programs run as may; others wait until one of them ends\"", c->hooks);
}

int hook_start(struct controller *c, const char *id, const char *worker_id, const struct hook_variable *v, size_t n,
    struct why *why)
{
	__attribute__((cleanup(environment_fini))) struct environment env = {0};
	struct running *r;
	int pipes[2], err;
	pid_t pid = 0;

	if (c->hooks >= HOOKS_MAX) {
		say_full(c);
		return ERR_FULL;
	}
	if (pipe2(pipes, O_CLOEXEC) != 0)
		return why_set(why, ERR_IO, "no pipe: %s", strerror(errno));
	environment_make(&env, v, n);
	err = spawn_program(c->o.spawn, env.v, pipes[1], &pid);
	close(pipes[1]);
	if (err != 0) {
		close(pipes[0]);
		return why_set(why, ERR_IO, "%s cannot be started: %s", c->o.spawn, strerror(err));
	}
	r = NEW(struct running);
	*r = (struct running){.inbox = mailbox_ref(c->inbox),
	    .id = str_dup(id),
	    .worker_id = str_dup(worker_id),
	    .pid = pid,
	    .fd = pipes[0]};
	ENSURE(thread_start("hook", STACK_BYTES, hook_thread, r) == OK);
	c->hooks++;
	return OK;
}
