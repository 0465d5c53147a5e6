/* The init of one box: the ancestor of everything that runs in it. One thread, all signals blocked with their default
 * actions, so that programs inherit nothing of it. */
#include "agent/box/box_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/sanitized.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define STACK_BYTES (256 * 1024)

struct program {
	pid_t pid;
	int status_fd;
};

struct init {
	int sock, signal_fd;
	enum box_level level;
	struct program *v;
	size_t n, cap;
	char *stack; /* of the short time between clone and exec */
	int *exec_errno; /* shared with it */
};

/* What the process between clone and exec needs; all is prepared, since it may share the init's memory. */
struct start {
	const struct init *init;
	const struct packet *p;
	char *const *argv, *const *env;
	int cwd_fd, null_fd, status_fd;
};

static int start_program(void *arg)
{
	const struct start *s = arg;
	const struct packet begun = {.kind = PACKET_BEGUN};
	sigset_t none;

	sigemptyset(&none);
	setsid();
	if (fchdir(s->cwd_fd) != 0 || dup2(s->p->n_fds > 4 ? s->p->fd[4] : s->null_fd, 0) < 0 ||
	    dup2(s->p->fd[2], 1) < 0 || dup2(s->p->fd[3], 2) < 0 || wire_send(s->status_fd, &begun, NULL, 0) != OK) {
		*s->init->exec_errno = errno;
		_exit(127);
	}
	close_range(3, ~0u, 0);
	sigprocmask(SIG_SETMASK, &none, NULL);
	execvpe(s->argv[0], s->argv, s->env);
	*s->init->exec_errno = errno;
	_exit(127);
}

static void send_code(int fd, enum packet_kind kind, int code)
{
	/* Nobody may be interested any more. */
	IGNORE(wire_send(fd, &(struct packet){.kind = kind, .code = code}, NULL, 0));
}

static void init_spawn(struct init *in, struct packet *p)
{
	struct start s = {.init = in, .p = p, .status_fd = p->fd[1]};
	char *block = NULL, **v = NULL, **argv, **env;
	pid_t pid = -1;
	int e = EIO;
	struct packet started = {.kind = PACKET_STARTED};

	if (p->n_fds >= 4 && p->count[0] > 0 && (uint64_t)p->count[0] + p->count[1] + 1 == p->n_texts &&
	    texts_read(p->fd[0], p->texts_bytes, p->n_texts, &block, &v) == OK) {
		/* [cwd, arguments, environment]; the arguments move down over the cwd to make room for their end. */
		s.cwd_fd = open(v[0], O_PATH | O_DIRECTORY | O_CLOEXEC);
		e = errno;
		started.count[0] = s.cwd_fd < 0;
		argv = v;
		memmove(argv, v + 1, p->count[0] * sizeof *v);
		argv[p->count[0]] = NULL;
		env = v + 1 + p->count[0];
		env[p->count[1]] = NULL;
		s.argv = argv;
		s.env = env;
		s.null_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
		if (s.cwd_fd >= 0) {
			*in->exec_errno = 0;
			pid = clone(start_program, in->stack + STACK_BYTES,
			    CLONE_VFORK | (SANITIZED ? 0 : CLONE_VM) | SIGCHLD, &s);
			e = pid < 0 ? errno : *in->exec_errno;
			close(s.cwd_fd);
		}
		if (s.null_fd >= 0)
			close(s.null_fd);
	}
	free(block);
	free(v);
	started.code = e;
	started.pid = pid;
	IGNORE(wire_send(s.status_fd, &started, NULL, 0));
	if (pid > 0 && e == 0) {
		in->v = mem_grow(in->v, &in->cap, in->n + 1, sizeof *in->v);
		in->v[in->n++] = (struct program){pid, s.status_fd};
		p->fd[1] = -1;
	}
}

/* Returns false when there are no children, which means nothing at all: orphans come here. */
static bool init_reap(struct init *in)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		for (size_t i = 0; i < in->n; i++)
			if (in->v[i].pid == pid) {
				send_code(in->v[i].status_fd, PACKET_ENDED, status);
				close(in->v[i].status_fd);
				in->v[i] = in->v[--in->n];
				break;
			}
	return pid == 0;
}

static void init_usage(struct packet *p)
{
	struct packet answer = {.kind = PACKET_USAGE};
	struct rusage r;

	if (getrusage(RUSAGE_CHILDREN, &r) == 0) {
		answer.usage.cpu_ms = (r.ru_utime.tv_sec + r.ru_stime.tv_sec) * INT64_C(1000) +
				      (r.ru_utime.tv_usec + r.ru_stime.tv_usec) / 1000;
		answer.usage.peak_memory_bytes = r.ru_maxrss * INT64_C(1024);
		answer.usage.written_bytes = r.ru_oublock * INT64_C(512);
	}
	tree_usage(getpid(), &answer.usage);
	IGNORE(wire_send(p->fd[0], &answer, NULL, 0));
}

static void signal_all(const struct init *in, int sig)
{
	if (in->level == BOX_NAMESPACE)
		kill(-1, sig);
	else
		tree_signal(getpid(), NULL, 0, sig);
}

static void wait_child(struct init *in, int ms)
{
	struct signalfd_siginfo info;
	struct pollfd p = {in->signal_fd, POLLIN, 0};

	if (poll(&p, 1, ms) > 0)
		IGNORE(read(in->signal_fd, &info, sizeof info));
}

static _Noreturn void init_end(struct init *in, int term_ms, int give_up_ms)
{
	int64_t began = clock_mono_ms(), spent;
	bool asked = false;

	while (init_reap(in) && (spent = clock_mono_ms() - began) < give_up_ms) {
		if (spent < term_ms) {
			if (!asked)
				signal_all(in, SIGTERM);
			/* A stopped process hears the other only when it goes on. */
			if (!asked)
				signal_all(in, SIGCONT);
			asked = true;
			wait_child(in, (int)(term_ms - spent));
			continue;
		}
		signal_all(in, SIGKILL);
		wait_child(in, 5);
	}
	_exit(0);
}

static void init_serve(struct init *in)
{
	for (;;) {
		struct pollfd p[2] = {{in->sock, POLLIN, 0}, {in->signal_fd, POLLIN, 0}};
		struct packet packet;
		int rc;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents != 0) {
			wait_child(in, 0);
			init_reap(in);
		}
		if (p[0].revents == 0)
			continue;
		rc = wire_recv(in->sock, 0, &packet, NULL);
		if (rc == ERR_CLOSED)
			init_end(in, 0, 5000);
		if (rc != OK)
			continue;
		if (packet.kind == PACKET_SPAWN && packet.n_fds >= 4)
			init_spawn(in, &packet);
		else if (packet.kind == PACKET_USAGE)
			init_usage(&packet);
		else if (packet.kind == PACKET_CLOSE)
			init_end(in, packet.term_ms, packet.give_up_ms);
		wire_close_fds(&packet);
	}
}

static int prepare(struct init *in, struct packet *open, char **texts, bool privileged, struct packet *ready)
{
	struct why why = {""}, warning = {""};
	int rc = OK;

	if (in->level == BOX_NAMESPACE) {
		IGNORE(privilege_all());
		rc = mounts_make(open, texts, privileged, &warning, &why);
		if (rc == OK && ((rc = userns_leave()) != OK || (rc = privilege_drop(privileged)) != OK))
			why_set(&why, rc, "cannot give up privileges in the session's box");
	} else {
		prctl(PR_SET_CHILD_SUBREAPER, 1);
	}
	/* Leaves a folder that a mount may have covered. */
	if (chdir("/") != 0 || chdir(texts[2]) != 0)
		IGNORE(chdir("/"));
	memcpy(ready->text, rc == OK ? warning.text : why.text, sizeof ready->text);
	return rc;
}

void init_run(int sock, struct packet *open, bool privileged)
{
	struct init in = {.sock = sock, .level = (enum box_level)open->level};
	struct packet ready = {.kind = PACKET_READY};
	char *block = NULL, **texts = NULL;
	sigset_t child;

	prctl(PR_SET_NAME, "agent-box");
	sigemptyset(&child);
	sigaddset(&child, SIGCHLD);
	in.signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
	in.stack = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
	in.exec_errno = mmap(NULL, sizeof(int), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (in.signal_fd < 0 || in.stack == MAP_FAILED || in.exec_errno == MAP_FAILED ||
	    texts_read(open->fd[0], open->texts_bytes, open->n_texts, &block, &texts) != OK || open->n_texts < 3 ||
	    open->n_texts - 3 != (uint64_t)open->count[0] + open->count[1] + open->count[2]) {
		ready.code = ERR_IO;
		snprintf(ready.text, sizeof ready.text, "cannot set up the session's box");
	} else {
		ready.code = prepare(&in, open, texts, privileged, &ready);
	}
	free(block);
	free(texts);
	wire_close_fds(open);
	IGNORE(wire_send(sock, &ready, NULL, 0));
	if (ready.code != OK)
		_exit(1);
	init_serve(&in);
	_exit(1);
}
