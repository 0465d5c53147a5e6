#include "agent/box/box_priv.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/text.h"
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define STOP_NAP_US 500
#define STOP_NAP_MAX_US 32000

struct member {
	pid_t pid, ppid;
	uint64_t start; /* as process_start_of */
	char state; /* as in stat */
	bool below, out;
	int64_t ticks; /* of itself and of the children it has reaped */
};

struct members {
	struct member *v;
	size_t n, cap;
};

/* The folder is the box's /proc or the worker's: pids and parents are those of whoever looks. */
static size_t read_proc(const char *pid, const char *file, char *buf, size_t size)
{
	char path[64];
	ssize_t n;
	int fd;

	snprintf(path, sizeof path, "/proc/%.20s/%s", pid, file);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, buf, size - 1) : 0;
	if (fd >= 0)
		close(fd);
	buf[MAX(n, 0)] = '\0';
	return (size_t)MAX(n, 0);
}

static bool read_member(const char *pid, struct member *m)
{
	char text[1024];
	int64_t user, system, child_user, child_system;
	const char *after;

	if (read_proc(pid, "stat", text, sizeof text) == 0 || (after = strrchr(text, ')')) == NULL)
		return false;
	if (sscanf(after + 1, " %c %d %*d %*d %*d %*d %*u %*u %*u %*u %*u %" SCNd64 " %" SCNd64 " %" SCNd64 " %" SCNd64,
		&m->state, &m->ppid, &user, &system, &child_user, &child_system) != 6)
		return false;
	m->pid = (pid_t)strtol(pid, NULL, 10);
	m->start = process_start_of(text);
	m->ticks = user + system + child_user + child_system;
	m->below = m->out = false;
	return true;
}

static void list_members(struct members *l)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	l->n = 0;
	while (d != NULL && (e = readdir(d)) != NULL) {
		struct member m;

		if (!isdigit((unsigned char)e->d_name[0]) || !read_member(e->d_name, &m))
			continue;
		l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
		l->v[l->n++] = m;
	}
	if (d != NULL)
		closedir(d);
}

static const struct member *find_member(const struct members *l, pid_t pid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].pid == pid)
			return &l->v[i];
	return NULL;
}

static size_t mark_below(struct members *l, pid_t root, const pid_t *except, size_t n_except)
{
	size_t n = 0;

	for (size_t i = 0; i < l->n; i++)
		for (size_t k = 0; k < n_except; k++)
			l->v[i].out |= l->v[i].pid == except[k];
	for (bool more = true; more;) {
		more = false;
		for (size_t i = 0; i < l->n; i++) {
			struct member *m = &l->v[i];
			const struct member *parent = m->ppid == root ? NULL : find_member(l, m->ppid);

			if (m->below || m->out || (m->ppid != root && (parent == NULL || !parent->below)))
				continue;
			m->below = more = true;
			n++;
		}
	}
	return n;
}

size_t tree_signal(pid_t root, const pid_t *except, size_t n_except, int sig)
{
	struct members l = {0};
	size_t n;

	list_members(&l);
	n = mark_below(&l, root, except, n_except);
	for (size_t i = 0; i < l.n; i++)
		if (l.v[i].below)
			process_signal(l.v[i].pid, l.v[i].start, sig);
	free(l.v);
	return n;
}

/* Who waits in vfork stands in D, and cannot stop, until its child has become a program. A child that was stopped
 * before that must go on for a moment; it is stopped again in a later round. */
static bool let_children_exec(const struct members *l, pid_t parent)
{
	bool any = false;

	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].ppid == parent && l->v[i].state == 'T') {
			process_signal(l->v[i].pid, l->v[i].start, SIGCONT);
			any = true;
		}
	return any;
}

/* One round: what runs is told to stop. Returns how many did not stand still; *ret_freed: children were let go. */
static size_t stop_round(const struct members *l, bool *ret_freed)
{
	size_t running = 0;

	*ret_freed = false;
	for (size_t i = 0; i < l->n; i++) {
		const struct member *m = &l->v[i];

		/* A zombie does nothing any more. */
		if (!m->below || strchr("TtZX", m->state) != NULL)
			continue;
		process_signal(m->pid, m->start, SIGSTOP);
		running++;
		if (m->state == 'D')
			*ret_freed |= let_children_exec(l, m->pid);
	}
	return running;
}

bool tree_stop(pid_t root, int wait_ms)
{
	struct members l = {0};
	useconds_t nap_us = STOP_NAP_US;
	size_t running = 1;
	bool freed;

	/* What forks while it is listed has a child in the next list. */
	for (int64_t until = clock_mono_ms() + wait_ms; running > 0 && clock_mono_ms() < until;) {
		list_members(&l);
		mark_below(&l, root, NULL, 0);
		running = stop_round(&l, &freed);
		/* On a busy machine it takes a while until a child that was let go has its turn. */
		nap_us = freed ? MIN(nap_us * 2, STOP_NAP_MAX_US) : nap_us;
		if (running > 0)
			usleep(nap_us); /* interval of polling */
	}
	free(l.v);
	return running == 0;
}

static int64_t number_after(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at != NULL ? MAX(strtoll(at + strlen(name), NULL, 10), 0) : 0;
}

void tree_usage(pid_t root, struct box_usage *u)
{
	struct members l = {0};
	int64_t hz = MAX(sysconf(_SC_CLK_TCK), 1);
	char text[4096], pid[24];

	list_members(&l);
	mark_below(&l, root, NULL, 0);
	for (size_t i = 0; i < l.n; i++) {
		if (!l.v[i].below)
			continue;
		u->cpu_ms += l.v[i].ticks * 1000 / hz;
		snprintf(pid, sizeof pid, "%d", (int)l.v[i].pid);
		read_proc(pid, "status", text, sizeof text);
		u->peak_memory_bytes = MAX(u->peak_memory_bytes, number_after(text, "\nVmHWM:") * 1024);
		read_proc(pid, "io", text, sizeof text);
		u->written_bytes += number_after(text, "\nwrite_bytes:");
	}
	free(l.v);
}
