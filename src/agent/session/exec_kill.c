#include "agent/session/exec.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/process.h"
#include "base/strbuf.h"
#include "base/text.h"
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_ENVIRON_BYTES (8 * 1024 * 1024)
#define MAX_PROCESSES 65536

struct process {
	pid_t pid, ppid, pgrp, sid;
	uint64_t start; /* with the pid it names a process for good */
	bool doomed;
};

struct process_list {
	struct process *v;
	size_t n, cap;
};

/* What was found once stays known when its parent is gone. */
struct known {
	pid_t pid;
	uint64_t start;
};

struct known_list {
	struct known *v;
	size_t n, cap;
};

/* Fields 3 to 6 and 22 of /proc/PID/stat: state, parent, group, session; start. */
static bool read_stat(pid_t pid, struct process *p)
{
	char path[64], state;
	AUTO_STR text = NULL;
	size_t len;
	const char *after;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	if (text_read_file(path, 4096, &text, &len) != OK || (after = strrchr(text, ')')) == NULL)
		return false;
	if (sscanf(after + 1, " %c %d %d %d", &state, &p->ppid, &p->pgrp, &p->sid) != 4)
		return false;
	p->start = process_start_of(text);
	p->pid = pid;
	p->doomed = false;
	return state != 'Z' && state != 'X';
}

static bool has_mark(pid_t pid, const char *mark)
{
	char path[64];
	AUTO_STR text = NULL;
	size_t len, mark_len = strlen(mark);

	/* With the end of the value, except where anything below a folder is meant. */
	if (mark[mark_len - 1] != '/')
		mark_len++;
	snprintf(path, sizeof path, "/proc/%d/environ", (int)pid);
	if (text_read_file(path, MAX_ENVIRON_BYTES, &text, &len) != OK)
		return false;
	for (const char *at = text; (at = memmem(at, len + 1 - (size_t)(at - text), mark, mark_len)) != NULL; at++)
		if (at == text || at[-1] == '\0')
			return true;
	return false;
}

static bool is_ours_to_kill(int proc_fd, const char *name)
{
	struct stat st;
	uid_t me = geteuid();

	if (!isdigit((unsigned char)name[0]) || fstatat(proc_fd, name, &st, 0) != 0)
		return false;
	return me == 0 || st.st_uid == me;
}

static void list_processes(struct process_list *l)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	l->n = 0;
	if (d == NULL)
		return;
	while ((e = readdir(d)) != NULL && l->n < MAX_PROCESSES) {
		struct process p;
		pid_t pid = (pid_t)strtol(e->d_name, NULL, 10);

		if (!is_ours_to_kill(dirfd(d), e->d_name) || pid <= 1 || pid == getpid() || !read_stat(pid, &p))
			continue;
		l->v = mem_grow(l->v, &l->cap, l->n + 1, sizeof *l->v);
		l->v[l->n++] = p;
	}
	closedir(d);
}

static bool parent_is_doomed(const struct process_list *l, pid_t ppid)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].pid == ppid)
			return l->v[i].doomed;
	return false;
}

/* Itself, or the leader of its group or session, was found before. A leader that is gone leaves its number to the
 * group: no other process gets it. */
static bool was_known(const struct known_list *known, const struct process *p)
{
	for (size_t i = 0; i < known->n; i++)
		if ((known->v[i].pid == p->pid && known->v[i].start == p->start) ||
		    (known->v[i].pid != p->pid && (known->v[i].pid == p->pgrp || known->v[i].pid == p->sid)))
			return true;
	return false;
}

static void remember(struct known_list *known, const struct process *p)
{
	for (size_t i = 0; i < known->n; i++)
		if (known->v[i].pid == p->pid && known->v[i].start == p->start)
			return;
	known->v = mem_grow(known->v, &known->cap, known->n + 1, sizeof *known->v);
	known->v[known->n++] = (struct known){p->pid, p->start};
}

/* Signals all that is found once; how many that were. */
static size_t sweep(struct process_list *l, struct known_list *known, const char *mark, pid_t leader, int sig)
{
	size_t doomed = 0;
	bool more = true;

	list_processes(l);
	for (size_t i = 0; i < l->n; i++) {
		struct process *p = &l->v[i];

		p->doomed = (leader > 0 && (p->pid == leader || p->pgrp == leader || p->sid == leader)) ||
			    was_known(known, p) || has_mark(p->pid, mark);
		doomed += p->doomed;
	}
	while (more && doomed > 0) {
		more = false;
		for (size_t i = 0; i < l->n; i++)
			if (!l->v[i].doomed && parent_is_doomed(l, l->v[i].ppid)) {
				l->v[i].doomed = more = true;
				doomed++;
			}
	}
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i].doomed) {
			remember(known, &l->v[i]);
			if (sig != 0)
				process_signal(l->v[i].pid, l->v[i].start, sig);
		}
	return doomed;
}

bool exec_kill_all(const char *mark, pid_t leader, int term_ms, int give_up_ms)
{
	struct process_list l = {0};
	struct known_list known = {0};
	int64_t start = clock_mono_ms();
	int clean = 0;

	/* A process between fork and exec can be missed by one look at /proc, so nothing counts as gone until two
	 * looks in a row found nothing. */
	for (bool first = true; clean < 2; first = false) {
		int64_t spent = clock_mono_ms() - start;
		int sig = spent >= term_ms ? SIGKILL : first ? SIGTERM : 0;

		if (spent >= give_up_ms)
			break;
		clean = sweep(&l, &known, mark, leader, sig) == 0 ? clean + 1 : 0;
		if (clean < 2)
			poll(NULL, 0, clean > 0 ? 2 : 20);
	}
	free(l.v);
	free(known.v);
	return clean >= 2;
}

size_t exec_count(const char *mark)
{
	struct process_list l = {0};
	struct known_list known = {0};
	size_t n = sweep(&l, &known, mark, 0, 0);

	free(l.v);
	free(known.v);
	return n;
}
