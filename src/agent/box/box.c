#include "agent/box/box_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#define OPEN_MS 20000
#define SPAWN_MS 30000
#define USAGE_MS 5000
/* From the init's word to its end. */
#define PAUSE_MS 3000
#define GRACE_MS 500

static void free_box(struct box **xp)
{
	struct box *x = *xp;

	if (x->sock >= 0)
		close(x->sock);
	if (x->pid_fd >= 0)
		close(x->pid_fd);
	if (x->group != NULL)
		cgroup_remove(x->group);
	str_free(&x->group);
	x->magic = 0;
	free(x);
	*xp = NULL;
}

static void add_list(struct texts *t, const char *const *list, uint32_t *count)
{
	for (*count = 0; list != NULL && list[*count] != NULL; (*count)++)
		texts_add(t, list[*count]);
}

static int ask_keeper(struct boxes *b, const struct box_config *cfg, int init_sock, struct why *why)
{
	struct packet p = {.kind = PACKET_OPEN, .own_tmp = cfg->own_tmp, .home = cfg->home != NULL};
	AUTO_FINI(texts) t = {0};
	char cwd[PATH_MAX];
	int fds[2] = {-1, init_sock}, rc;

	texts_add(&t, cfg->scratch);
	texts_add(&t, cfg->home != NULL ? cfg->home : "");
	texts_add(&t, getcwd(cwd, sizeof cwd) != NULL ? cwd : "/");
	add_list(&t, cfg->keep, &p.count[0]);
	add_list(&t, cfg->read_only, &p.count[1]);
	add_list(&t, cfg->hidden, &p.count[2]);
	p.n_texts = t.n;
	p.texts_bytes = t.len;
	fds[0] = texts_to_fd(&t);
	if (fds[0] < 0)
		return why_set(why, ERR_IO, "cannot make a box for the session: %s", strerror(errno));
	rc = wire_send(b->sock, &p, fds, 2);
	close(fds[0]);
	if (rc != OK)
		return why_set(why, rc,
		    "the keeper of the boxes is gone; the worker must be restarted before it can open a session");
	return OK;
}

/* The two answers come in any order. */
static int hear_answers(struct box *x, struct why *why)
{
	bool made = false, ready = false;

	while (!made || !ready) {
		struct packet p;
		int rc = wire_recv(x->sock, OPEN_MS, &p, NULL);

		if (rc != OK)
			return why_set(why, rc, "the session's box ended while it was made");
		p.text[sizeof p.text - 1] = '\0';
		if (p.code != OK) {
			wire_close_fds(&p);
			return why_set(why, p.code, "%s", p.text);
		}
		if (p.kind == PACKET_MADE && p.n_fds == 1) {
			made = true;
			x->pid = p.pid;
			x->pid_fd = p.fd[0];
		} else if (p.kind == PACKET_READY) {
			ready = true;
			why_set(&x->warning, OK, "%s", p.text);
		} else {
			wire_close_fds(&p);
		}
	}
	return OK;
}

static int make_group(struct boxes *b, struct box *x, const struct box_config *cfg, struct why *why)
{
	bool limits = cfg->memory_bytes > 0 || cfg->cpu_milli > 0 || cfg->pids > 0;
	AUTO_STR name = NULL;
	int rc = limits ? boxes_may_limit(b, why) : OK;

	if (rc != OK || b->cgroup == NULL)
		return rc;
	name = str_printf("session-%d-%u", (int)getpid(), atomic_fetch_add(&b->next_group, 1));
	rc = cgroup_make(b->cgroup, name, cfg->memory_bytes, cfg->cpu_milli, cfg->pids, &x->group, why);
	if (rc != OK && !limits)
		rc = why_set(&x->warning, OK, "%s", why->text);
	return rc;
}

static int join_group(struct box *x, struct why *why)
{
	if (x->group == NULL || cgroup_add(x->group, x->pid) == OK)
		return OK;
	return why_set(
	    why, ERR_IO, "cannot move the session into its control group '%.200s': %s", x->group, strerror(errno));
}

int box_open(struct boxes *b, const struct box_config *cfg, struct box **ret, struct why *why)
{
	struct why unheard;
	struct box *x;
	int pair[2], rc;

	OBJ_CHECK(b, BOXES_MAGIC);
	why = why != NULL ? why : &unheard;
	*ret = NULL;
	if (b->level == BOX_NONE)
		return OK;
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return why_set(why, ERR_IO, "cannot make a box for the session: %s", strerror(errno));
	x = NEW(struct box);
	*x = (struct box){.magic = BOX_MAGIC, .level = b->level, .sock = pair[0], .pid_fd = -1};
	rc = make_group(b, x, cfg, why);
	if (rc == OK)
		rc = ask_keeper(b, cfg, pair[1], why);
	close(pair[1]);
	if (rc == OK)
		rc = hear_answers(x, why);
	if (rc == OK)
		rc = join_group(x, why);
	if (rc == OK)
		*ret = x;
	else
		free_box(&x);
	return rc;
}

const char *box_warning(const struct box *x)
{
	return x->warning.text;
}

enum box_level box_level(const struct box *x)
{
	return x->level;
}

/* ".." of a descriptor from outside would lead to the folders outside. */
static int add_cwd(struct texts *t, const struct box_spawn *s, struct why *why)
{
	int cwd_fd = s->cwd_fd;
	char link[40], path[PATH_MAX];
	ssize_t n;

	if (s->cwd != NULL || cwd_fd <= 0) {
		texts_add(t, s->cwd != NULL ? s->cwd : ".");
		return OK;
	}
	snprintf(link, sizeof link, "/proc/self/fd/%d", cwd_fd);
	n = readlink(link, path, sizeof path);
	if (n <= 0 || n == (ssize_t)sizeof path)
		return why_set(why, ERR_IO, "the path of the working directory cannot be found out");
	path[n] = '\0';
	texts_add(t, path);
	return OK;
}

static int ask_init(struct box *x, const struct box_spawn *s, int status_sock, struct why *why)
{
	struct packet p = {.kind = PACKET_SPAWN};
	AUTO_FINI(texts) t = {0};
	int fds[5] = {-1, status_sock, s->out_fd, s->err_fd, s->stdin_fd}, rc = add_cwd(&t, s, why);

	if (rc != OK)
		return rc;
	add_list(&t, s->argv, &p.count[0]);
	add_list(&t, (const char *const *)s->env, &p.count[1]);
	p.n_texts = t.n;
	p.texts_bytes = t.len;
	fds[0] = texts_to_fd(&t);
	if (fds[0] < 0)
		return why_set(why, ERR_IO, "cannot run '%.100s': %s", s->argv[0], strerror(errno));
	rc = wire_send(x->sock, &p, fds, s->stdin_fd > 0 ? 5 : 4);
	close(fds[0]);
	return rc == OK ? OK : why_set(why, rc, "cannot run '%.100s': the session's box has ended", s->argv[0]);
}

static int hear_start(int sock, const struct box_spawn *s, pid_t *ret_pid, struct why *why)
{
	const char *name = s->argv[0];

	for (;;) {
		struct packet p;
		pid_t pid = 0;
		int rc = wire_recv(sock, SPAWN_MS, &p, &pid);

		if (rc != OK)
			return why_set(why, rc, "cannot run '%.100s': the session's box %s", name,
			    rc == ERR_TIMEOUT ? "does not answer" : "has ended");
		wire_close_fds(&p);
		if (p.kind == PACKET_BEGUN)
			*ret_pid = pid;
		if (p.kind != PACKET_STARTED)
			continue;
		if (p.code == 0 && s->ret_inner_pid != NULL)
			*s->ret_inner_pid = p.pid;
		if (p.code == 0)
			return OK;
		if (p.count[0] != 0)
			return why_set(why, ERR_INVALID, "the working directory cannot be used: %s", strerror(p.code));
		return why_set(why, err_from_errno(p.code), "cannot run '%.100s': %s", name, strerror(p.code));
	}
}

int box_spawn(struct box *x, const struct box_spawn *s, pid_t *ret_pid, int *ret_status_fd, struct why *why)
{
	int pair[2], rc, yes = 1;

	OBJ_CHECK(x, BOX_MAGIC);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return why_set(why, ERR_IO, "cannot run '%.100s': %s", s->argv[0], strerror(errno));
	setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &yes, sizeof yes);
	rc = ask_init(x, s, pair[1], why);
	close(pair[1]);
	if (rc == OK)
		rc = hear_start(pair[0], s, ret_pid, why);
	if (rc == OK)
		*ret_status_fd = pair[0];
	else
		close(pair[0]);
	return rc;
}

int box_status(int status_fd, int *ret)
{
	struct packet p;
	int rc = wire_recv(status_fd, 0, &p, NULL);

	if (rc == ERR_TIMEOUT)
		return ERR_EMPTY;
	if (rc == OK)
		wire_close_fds(&p);
	*ret = rc == OK && p.kind == PACKET_ENDED ? p.code : SIGKILL;
	return OK;
}

int box_usage(struct box *x, struct box_usage *ret)
{
	struct packet p = {.kind = PACKET_USAGE};
	int pair[2], rc;

	OBJ_CHECK(x, BOX_MAGIC);
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return ERR_IO;
	rc = wire_send(x->sock, &p, &pair[1], 1);
	close(pair[1]);
	if (rc == OK)
		rc = wire_recv(pair[0], USAGE_MS, &p, NULL);
	close(pair[0]);
	if (rc != OK)
		return rc;
	*ret = p.usage;
	if (x->group != NULL)
		IGNORE(cgroup_usage(x->group, ret));
	return OK;
}

static bool has_ended(const struct box *x, int ms)
{
	struct pollfd p = {x->pid_fd, POLLIN, 0};

	return poll(&p, 1, MAX(ms, 0)) > 0;
}

bool box_has_ended(const struct box *x)
{
	return has_ended(x, 0);
}

bool box_pause(struct box *x)
{
	return x != NULL && tree_stop(x->pid, PAUSE_MS);
}

void box_resume(struct box *x)
{
	if (x != NULL)
		tree_signal(x->pid, NULL, 0, SIGCONT);
}

int box_close(struct box **xp, int term_ms, int give_up_ms)
{
	struct packet p = {.kind = PACKET_CLOSE, .term_ms = term_ms, .give_up_ms = give_up_ms};
	struct box *x = *xp;
	bool ended;

	if (x == NULL)
		return OK;
	OBJ_CHECK(x, BOX_MAGIC);
	IGNORE(wire_send(x->sock, &p, NULL, 0));
	ended = has_ended(x, give_up_ms + GRACE_MS);
	if (!ended) {
		/* It did not manage, or it is stopped: the kernel's means are left. */
		syscall(SYS_pidfd_send_signal, x->pid_fd, SIGKILL, NULL, 0);
		ended = has_ended(x, GRACE_MS);
	}
	/* Not even the end of init and keeper lets anything out of the group. */
	if (x->group != NULL)
		ended = cgroup_kill(x->group, GRACE_MS) && ended;
	free_box(xp);
	return ended ? OK : ERR_TIMEOUT;
}
