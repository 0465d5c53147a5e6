/* The keeper: a fork of the worker from when that had one thread, so it may fork as it likes. It makes the inits of the
 * boxes, and is the one to which processes come whose init was killed. */
#include "agent/box/box_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define FAREWELL_MS 7000
#define ORPHANS_MS 5000

struct keeper {
	int sock, signal_fd;
	enum box_level level;
	bool privileged;
	pid_t *inits;
	size_t n, cap;
};

/* fork with namespaces. Legacy clone: containers refuse clone3. The first three arguments are in the same order
 * everywhere but on s390. */
static pid_t fork_with(unsigned long flags, int *ret_pid_fd)
{
	return (pid_t)syscall(
	    SYS_clone, flags | SIGCHLD | (ret_pid_fd != NULL ? CLONE_PIDFD : 0), NULL, ret_pid_fd, NULL, NULL);
}

static unsigned long level_flags(enum box_level level, bool privileged)
{
	if (level != BOX_NAMESPACE)
		return 0;
	return CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | (privileged || userns_entered() ? 0 : CLONE_NEWUSER);
}

static int read_number(const char *path, int64_t fallback)
{
	AUTO_STR text = NULL;
	size_t len;

	if (text_read_file(path, 64, &text, &len) != OK)
		return (int)fallback;
	return (int)MIN(strtoll(text, NULL, 10), INT32_MAX);
}

static bool is_filtered(void)
{
	AUTO_STR text = NULL;
	size_t len;

	return text_read_file("/proc/self/status", 65536, &text, &len) == OK && strstr(text, "\nSeccomp:\t2") != NULL;
}

/* Why the kernel said no, as far as it can be known, and what allows it. */
static void explain(const char *step, int e, struct why *ret)
{
	const char *how;

	if (read_number("/proc/sys/kernel/unprivileged_userns_clone", 1) == 0)
		how = "allow it with sysctl -w kernel.unprivileged_userns_clone=1";
	else if (read_number("/proc/sys/user/max_user_namespaces", 1) == 0)
		how = "allow it with sysctl -w user.max_user_namespaces=10000";
	else if (read_number("/proc/sys/kernel/apparmor_restrict_unprivileged_userns", 0) == 1)
		how = "allow it with sysctl -w kernel.apparmor_restrict_unprivileged_userns=0, or with an AppArmor "
		      "profile for agent that has 'userns,'";
	else if (strcmp(step, "mount /proc") == 0)
		how = "parts of /proc are covered here: give the container an unmasked one (docker: --security-opt "
		      "systempaths=unconfined)";
	else if (is_filtered())
		how = "a seccomp filter is in force here: give the container CAP_SYS_ADMIN, or a filter that lets "
		      "clone and mount pass (docker: --security-opt seccomp=unconfined)";
	else
		how = "this kernel or its security module does not allow user namespaces";
	why_set(ret, ERR_DENIED, "namespaces are not to be had: cannot %s (%s); %s", step, strerror(e), how);
}

/* In a fork. What failed comes through the pipe. */
static _Noreturn void probe_child(int to_fd, bool privileged, uid_t uid, gid_t gid)
{
	const char *step = "map the user into a user namespace";
	struct {
		int e;
		char step[64];
	} said = {0};

	if ((!privileged && !userns_entered() && privilege_map_ids(uid, gid) != OK) || privilege_all() != OK ||
	    mounts_probe(privileged, &step) != OK ||
	    (step = "leave the worker's user namespace", userns_leave()) != OK ||
	    (step = "give up privileges", privilege_drop(privileged)) != OK) {
		said.e = errno != 0 ? errno : EPERM;
		snprintf(said.step, sizeof said.step, "%s", step);
	}
	IGNORE(write(to_fd, &said, sizeof said));
	_exit(0);
}

/* A user namespace of root's own would know no other users: apt, su and chown would fail in it. */
static bool is_crippled_root(bool privileged, struct why *missing)
{
	if (privileged || getuid() != 0)
		return false;
	why_set(missing, ERR_DENIED,
	    "namespaces are not to be had: the worker is root without CAP_SYS_ADMIN; run it as another user, or give "
	    "the "
	    "container CAP_SYS_ADMIN (docker: --cap-add SYS_ADMIN)");
	return true;
}

bool keeper_may_box(bool privileged, struct why *missing)
{
	struct {
		int e;
		char step[64];
	} said = {EIO, "start a process in namespaces"};
	uid_t uid = getuid();
	gid_t gid = getgid();
	int p[2];
	pid_t pid;

	if (pipe2(p, O_CLOEXEC) != 0)
		return false;
	pid = fork_with(level_flags(BOX_NAMESPACE, privileged), NULL);
	if (pid == 0)
		probe_child(p[1], privileged, uid, gid);
	if (pid < 0)
		said.e = errno;
	close(p[1]);
	if (pid > 0) {
		IGNORE(read(p[0], &said, sizeof said));
		waitpid(pid, NULL, 0);
	}
	close(p[0]);
	if (said.e != 0)
		explain(said.step, said.e, missing);
	return said.e == 0;
}

static bool has_pid_fds(struct why *missing)
{
	int fd = (int)syscall(SYS_pidfd_open, getpid(), 0);

	if (fd < 0)
		why_set(missing, ERR_DENIED,
		    "boxes need pidfd_open, which this kernel or its filter does not have (%s)", strerror(errno));
	else
		close(fd);
	return fd >= 0;
}

static void keeper_open(struct keeper *k, struct packet *p)
{
	struct packet made = {.kind = PACKET_MADE};
	int pid_fd = -1, sock = p->fd[1];
	uid_t uid = getuid();
	gid_t gid = getgid();
	pid_t pid;

	p->level = (int32_t)k->level;
	pid = fork_with(level_flags(k->level, k->privileged), &pid_fd);
	if (pid == 0) {
		close(k->sock);
		close(k->signal_fd);
		if (k->level == BOX_NAMESPACE && !k->privileged && !userns_entered() &&
		    privilege_map_ids(uid, gid) != OK)
			_exit(1);
		p->fd[1] = -1;
		init_run(sock, p, k->privileged);
	}
	if (pid < 0) {
		made.code = err_from_errno(errno);
		snprintf(made.text, sizeof made.text, "cannot make a box for the session: %s", strerror(errno));
		IGNORE(wire_send(sock, &made, NULL, 0));
		return;
	}
	k->inits = mem_grow(k->inits, &k->cap, k->n + 1, sizeof *k->inits);
	k->inits[k->n++] = pid;
	made.pid = pid;
	IGNORE(wire_send(sock, &made, &pid_fd, 1));
	close(pid_fd);
}

/* Returns whether there still are children. *ret_init is set where an init was among those reaped. */
static bool keeper_reap(struct keeper *k, bool *ret_init)
{
	pid_t pid;

	while ((pid = waitpid(-1, NULL, WNOHANG)) > 0)
		for (size_t i = 0; i < k->n; i++)
			if (k->inits[i] == pid) {
				k->inits[i] = k->inits[--k->n];
				*ret_init = true;
				break;
			}
	return pid == 0;
}

static void wait_signal(struct keeper *k, int ms)
{
	struct signalfd_siginfo info;
	struct pollfd p = {k->signal_fd, POLLIN, 0};

	if (poll(&p, 1, ms) > 0)
		IGNORE(read(k->signal_fd, &info, sizeof info));
}

/* An init that was killed leaves its programs to the keeper. */
static void end_orphans(struct keeper *k)
{
	int64_t end = clock_mono_ms() + ORPHANS_MS;
	bool unused;

	while (tree_signal(getpid(), k->inits, k->n, SIGKILL) > 0 && clock_mono_ms() < end) {
		wait_signal(k, 5);
		keeper_reap(k, &unused);
	}
}

/* The worker is gone. The inits know it too and end what is theirs. */
static _Noreturn void keeper_end(struct keeper *k)
{
	int64_t end = clock_mono_ms() + FAREWELL_MS;
	bool unused;

	while (keeper_reap(k, &unused) && clock_mono_ms() < end) {
		if (k->n == 0)
			tree_signal(getpid(), NULL, 0, SIGKILL);
		wait_signal(k, k->n == 0 ? 5 : 100);
	}
	for (size_t i = 0; i < k->n; i++)
		kill(k->inits[i], SIGKILL);
	_exit(0);
}

static _Noreturn void keeper_serve(struct keeper *k)
{
	for (;;) {
		struct pollfd p[2] = {{k->sock, POLLIN, 0}, {k->signal_fd, POLLIN, 0}};
		struct packet packet;
		bool init_ended = false;
		int rc;

		if (poll(p, 2, -1) < 0)
			continue;
		if (p[1].revents != 0) {
			wait_signal(k, 0);
			keeper_reap(k, &init_ended);
			if (init_ended && k->level == BOX_PROCESS)
				end_orphans(k);
		}
		if (p[0].revents == 0)
			continue;
		rc = wire_recv(k->sock, 0, &packet, NULL);
		if (rc == ERR_CLOSED)
			keeper_end(k);
		if (rc != OK)
			continue;
		if (packet.kind == PACKET_OPEN && packet.n_fds == 2)
			keeper_open(k, &packet);
		wire_close_fds(&packet);
	}
}

/* Out of the worker's group and terminal: what ends the worker by a key must not end the keeper first. */
static void settle(struct keeper *k)
{
	sigset_t all;
	int null;

	setsid();
	prctl(PR_SET_NAME, "agent-keeper");
	/* Its memory, and so the inits', is a copy of the worker's. */
	prctl(PR_SET_DUMPABLE, 0);
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	for (int sig = 1; sig < _NSIG; sig++)
		signal(sig, SIG_DFL);
	/* First, since the worker may have been started with one of these closed. */
	k->sock = fcntl(k->sock, F_DUPFD_CLOEXEC, 3);
	null = open("/dev/null", O_RDWR | O_CLOEXEC);
	for (int fd = 0; fd < 3; fd++)
		dup2(null, fd);
	dup3(k->sock, 3, O_CLOEXEC);
	k->sock = 3;
	closefrom(4);
	sigemptyset(&all);
	sigaddset(&all, SIGCHLD);
	k->signal_fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	prctl(PR_SET_CHILD_SUBREAPER, 1);
}

void keeper_run(int sock, enum box_level wanted, bool privileged)
{
	struct keeper k = {.sock = sock, .privileged = privileged};
	struct packet hello = {.kind = PACKET_HELLO};
	struct why missing = {""};

	settle(&k);
	if (!has_pid_fds(&missing))
		k.level = BOX_NONE;
	else if (wanted == BOX_NAMESPACE && !is_crippled_root(privileged, &missing) &&
		 keeper_may_box(privileged, &missing))
		k.level = BOX_NAMESPACE;
	else
		k.level = BOX_PROCESS;
	hello.level = (int32_t)k.level;
	memcpy(hello.text, missing.text, sizeof hello.text);
	if (wire_send(k.sock, &hello, NULL, 0) != OK || k.level == BOX_NONE)
		_exit(0);
	keeper_serve(&k);
}
