#include "agent/box/cgroup.h"
#include "agent/box/box.h"
#include "agent/box/mountinfo.h"
#include "base/clock.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define CPU_PERIOD_US 100000
#define HOW                                                                                                            \
	"start the worker by systemd with Delegate=yes (systemd-run --user --scope -p Delegate=yes agent worker "      \
	"start …)"

struct cgroup {
	char *dir;
	struct why no_limits; /* "" if there are all controllers */
};

/* "0::/path" is the line of cgroup v2. */
static char *own_path(const char *self_cgroup)
{
	for (const char *line = self_cgroup; *line != '\0';) {
		size_t len = strcspn(line, "\n");

		if (len > 4 && strncmp(line, "0::/", 4) == 0)
			return str_ndup(line + 3, len - 3);
		if (len == 4 && strncmp(line, "0::/", 4) == 0)
			return str_dup("/");
		line += len + (line[len] == '\n');
	}
	return NULL;
}

/* A line of mountinfo: id parent dev ROOT POINT options… - TYPE … */
static bool read_mount(const char *line, size_t len, char **ret_root, char **ret_point)
{
	AUTO_STR text = str_ndup(line, len);
	AUTO_STR root = NULL;
	AUTO_STR point = NULL;
	const char *type = strstr(text, " - ");

	if (type == NULL || !text_has_prefix(type, " - cgroup2 "))
		return false;
	if (sscanf(text, "%*d %*d %*s %ms %ms", &root, &point) != 2)
		return false;
	mountinfo_unescape(root);
	mountinfo_unescape(point);
	*ret_root = TAKE(root);
	*ret_point = TAKE(point);
	return true;
}

/* What is left of `path` below `root`; NULL if it is not below. */
static const char *below(const char *path, const char *root)
{
	size_t len = strlen(root);

	if (strcmp(root, "/") == 0)
		return strcmp(path, "/") == 0 ? "" : path;
	if (strncmp(path, root, len) != 0 || (path[len] != '/' && path[len] != '\0'))
		return NULL;
	return path + len;
}

int cgroup_find(const char *self_cgroup, const char *mountinfo, char **ret)
{
	AUTO_STR path = own_path(self_cgroup);

	if (path == NULL)
		return ERR_NOT_FOUND;
	/* "/../x": the process is outside of its cgroup namespace. */
	if (text_has_prefix(path, "/.."))
		return ERR_INVALID;
	for (const char *line = mountinfo; *line != '\0';) {
		size_t len = strcspn(line, "\n");
		AUTO_STR root = NULL;
		AUTO_STR point = NULL;
		const char *rest;

		if (read_mount(line, len, &root, &point) && (rest = below(path, root)) != NULL) {
			*ret = str_printf("%s%s", point, rest);
			return OK;
		}
		line += len + (line[len] == '\n');
	}
	return ERR_NOT_FOUND;
}

static char *group_read(const char *dir, const char *file)
{
	AUTO_STR path = str_printf("%s/%s", dir, file);
	char *text = NULL;
	size_t len;

	return text_read_file(path, 1024 * 1024, &text, &len) == OK ? text : NULL;
}

static int group_write(const char *dir, const char *file, const char *text)
{
	AUTO_STR path = str_printf("%s/%s", dir, file);
	int fd = open(path, O_WRONLY | O_CLOEXEC), rc = OK;

	if (fd < 0)
		return err_from_errno(errno);
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		rc = err_from_errno(errno);
	close(fd);
	return rc;
}

static bool has_word(const char *words, const char *word)
{
	size_t len = strlen(word);

	for (const char *at = words; at != NULL && (at = strstr(at, word)) != NULL; at += len)
		if ((at == words || at[-1] == ' ') && (at[len] == '\0' || at[len] == ' ' || at[len] == '\n'))
			return true;
	return false;
}

static bool is_alone(const char *dir)
{
	AUTO_STR procs = group_read(dir, "cgroup.procs");
	AUTO_STR me = str_printf("%d\n", (int)getpid());

	return procs != NULL && strcmp(procs, me) == 0;
}

/* Root can write everywhere, so for root a sign is needed: systemd's, or that this is the top of a container's own. */
static bool is_delegated(const char *dir, const char *self_cgroup)
{
	AUTO_STR path = own_path(self_cgroup);
	AUTO_STR type = str_printf("%s/cgroup.type", dir);
	struct stat st;
	char v[2];

	if (stat(dir, &st) != 0)
		return false;
	if (geteuid() != 0)
		return st.st_uid == geteuid();
	if (getxattr(dir, "trusted.delegate", v, sizeof v) == 1 && v[0] == '1')
		return true;
	if (getxattr(dir, "user.delegate", v, sizeof v) == 1 && v[0] == '1')
		return true;
	return strcmp(path, "/") == 0 && access(type, F_OK) == 0;
}

static void enable_controllers(struct cgroup *c)
{
	static const char *const names[] = {"memory", "cpu", "pids", "io"};
	AUTO_STR have = group_read(c->dir, "cgroup.controllers");

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		AUTO_STR word = str_printf("+%s", names[i]);
		int rc = has_word(have, names[i]) ? group_write(c->dir, "cgroup.subtree_control", word) : ERR_NOT_FOUND;

		if (rc != OK && strcmp(names[i], "io") != 0 && c->no_limits.text[0] == '\0')
			why_set(&c->no_limits, ERR_DENIED,
			    "the worker's control group '%.200s' cannot hand on the controller %s (it has: "
			    "%.100s); " HOW,
			    c->dir, names[i], have != NULL && have[0] > '\n' ? have : "none");
	}
	for (char *nl = c->no_limits.text; (nl = strchr(nl, '\n')) != NULL;)
		*nl = ' ';
}

int cgroup_take(struct cgroup **ret, struct why *why)
{
	AUTO_STR self = NULL;
	AUTO_STR mounts = NULL;
	AUTO_STR dir = NULL;
	AUTO_STR leaf = NULL;
	size_t len;

	if (text_read_file("/proc/self/cgroup", 65536, &self, &len) != OK ||
	    text_read_file("/proc/self/mountinfo", 8 * 1024 * 1024, &mounts, &len) != OK ||
	    cgroup_find(self, mounts, &dir) != OK)
		return why_set(why, ERR_DENIED, "limits need control groups of version 2, which are not mounted here");
	if (!is_delegated(dir, self))
		return why_set(why, ERR_DENIED,
		    "limits need a control group that is the worker's own, and '%.200s' is not; " HOW, dir);
	if (!is_alone(dir))
		return why_set(why, ERR_DENIED,
		    "limits need a control group with nothing but the worker in it, and other processes are in "
		    "'%.200s'; " HOW,
		    dir);
	leaf = str_printf("%s/worker", dir);
	if ((mkdir(leaf, 0755) != 0 && errno != EEXIST) || cgroup_add(leaf, getpid()) != OK)
		return why_set(why, ERR_DENIED,
		    "limits need a control group that the worker can divide, and '%.200s' is not (%s); " HOW, dir,
		    strerror(errno));
	*ret = NEW(struct cgroup);
	(*ret)->dir = TAKE(dir);
	enable_controllers(*ret);
	return OK;
}

void cgroup_free(struct cgroup **c)
{
	if (*c == NULL)
		return;
	str_free(&(*c)->dir);
	free(*c);
	*c = NULL;
}

int cgroup_may_limit(const struct cgroup *c, struct why *why)
{
	return c->no_limits.text[0] == '\0' ? OK : why_set(why, ERR_DENIED, "%s", c->no_limits.text);
}

static int set_limit(const char *dir, const char *file, const char *text, int64_t wanted, struct why *why)
{
	if (wanted == 0 || group_write(dir, file, text) == OK)
		return OK;
	return why_set(why, ERR_DENIED, "cannot write %s to %.200s/%s: %s", text, dir, file, strerror(errno));
}

int cgroup_make(const struct cgroup *c, const char *name, int64_t memory_bytes, int64_t cpu_milli, int64_t pids,
    char **ret_dir, struct why *why)
{
	AUTO_STR dir = str_printf("%s/%s", c->dir, name);
	AUTO_STR memory = str_printf("%lld", (long long)memory_bytes);
	AUTO_STR cpu = str_printf("%lld %d", (long long)cpu_milli * (CPU_PERIOD_US / 1000), CPU_PERIOD_US);
	AUTO_STR many = str_printf("%lld", (long long)pids);
	int rc;

	if (mkdir(dir, 0755) != 0)
		return why_set(
		    why, err_from_errno(errno), "cannot make the control group '%.200s': %s", dir, strerror(errno));
	rc = set_limit(dir, "memory.max", memory, memory_bytes, why);
	if (rc == OK)
		rc = set_limit(dir, "cpu.max", cpu, cpu_milli, why);
	if (rc == OK)
		rc = set_limit(dir, "pids.max", many, pids, why);
	if (rc != OK) {
		rmdir(dir);
		return rc;
	}
	/* memory.oom.group stays 0: the init is in the group, and without it the session would end with one command. */
	*ret_dir = TAKE(dir);
	return OK;
}

int cgroup_add(const char *dir, pid_t pid)
{
	AUTO_STR text = str_printf("%d", (int)pid);

	return group_write(dir, "cgroup.procs", text);
}

bool cgroup_kill(const char *dir, int wait_ms)
{
	int64_t end = clock_mono_ms() + wait_ms;

	IGNORE(group_write(dir, "cgroup.kill", "1"));
	for (;;) {
		AUTO_STR events = group_read(dir, "cgroup.events");

		if (events == NULL || strstr(events, "populated 0") != NULL)
			return true;
		if (clock_mono_ms() >= end)
			return false;
		poll(NULL, 0, 2);
	}
}

static int64_t sum_after(const char *text, const char *name)
{
	int64_t sum = -1;

	for (const char *at = text; at != NULL && (at = strstr(at, name)) != NULL;) {
		bool whole = at == text || at[-1] == ' ' || at[-1] == '\n';

		at += strlen(name);
		if (whole)
			sum = MAX(sum, 0) + MAX(strtoll(at, NULL, 10), 0);
	}
	return sum;
}

int cgroup_usage(const char *dir, struct box_usage *u)
{
	AUTO_STR cpu = group_read(dir, "cpu.stat");
	AUTO_STR peak = group_read(dir, "memory.peak");
	AUTO_STR io = group_read(dir, "io.stat");
	int64_t cpu_us = sum_after(cpu, "usage_usec "), written = sum_after(io, "wbytes=");

	if (cpu_us >= 0)
		u->cpu_ms = cpu_us / 1000;
	if (peak != NULL)
		u->peak_memory_bytes = MAX(strtoll(peak, NULL, 10), 0);
	if (written >= 0)
		u->written_bytes = written;
	return cpu_us >= 0 || peak != NULL || written >= 0 ? OK : ERR_NOT_FOUND;
}

void cgroup_remove(const char *dir)
{
	rmdir(dir);
}
