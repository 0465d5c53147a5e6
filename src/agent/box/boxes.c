#include "agent/box/box_priv.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELLO_MS 10000

const char *box_level_name(enum box_level level)
{
	static const char *const names[] = {"none", "process", "namespace"};

	ENSURE((size_t)level < ARRAY_LEN(names));
	return names[level];
}

static bool is_single_threaded(void)
{
	DIR *d = opendir("/proc/self/task");
	struct dirent *e;
	int n = 0;

	if (d == NULL)
		return true; /* no /proc, no way to know */
	while ((e = readdir(d)) != NULL)
		n += e->d_name[0] != '.';
	closedir(d);
	return n == 1;
}

/* Before the keeper is forked, so that worker and keeper share it. */
static int leave_mounts(struct boxes *b, enum box_level wanted, const char *trial_dir, struct why *why)
{
	bool unshared = privilege_may_mount() && unshare(CLONE_NEWNS) == 0;

	b->privileged = unshared && !userns_entered();
	if (unshared)
		b->may_mount = mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) == 0 &&
			       mount(NULL, "/", NULL, MS_REC | MS_SHARED, NULL) == 0;
	else if (geteuid() == 0) /* it would know no other users */
		why_set(&b->no_mounts, OK, "the worker is root without CAP_SYS_ADMIN");
	else if (privilege_has_any())
		why_set(&b->no_mounts, OK,
		    "the worker has capabilities, which its programs would lose in a user namespace");
	else if (wanted == BOX_NAMESPACE && trial_dir != NULL) {
		int rc = userns_enter(trial_dir, &b->may_mount, &b->no_mounts);

		if (rc != OK)
			return why_set(why, rc, "%s", b->no_mounts.text);
	}
	return OK;
}

static int start_keeper(struct boxes *b, enum box_level wanted, struct why *why)
{
	struct packet hello;
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
		return why_set(why, ERR_IO, "cannot make a socket for the keeper of the boxes: %s", strerror(errno));
	fflush(NULL);
	b->keeper = fork();
	if (b->keeper == 0)
		keeper_run(pair[1], wanted, b->privileged);
	close(pair[1]);
	if (b->keeper < 0) {
		close(pair[0]);
		return why_set(why, ERR_IO, "cannot start the keeper of the boxes: %s", strerror(errno));
	}
	b->sock = pair[0];
	if (wire_recv(b->sock, HELLO_MS, &hello, NULL) != OK || hello.kind != PACKET_HELLO)
		return why_set(why, ERR_IO, "the keeper of the boxes does not answer");
	hello.text[sizeof hello.text - 1] = '\0';
	b->level = (enum box_level)hello.level;
	why_set(&b->missing, OK, "%s", hello.text);
	return OK;
}

int boxes_start(enum box_level wanted, bool required, const char *trial_dir, struct boxes **ret, struct why *why)
{
	AUTO(boxes) b = NEW(struct boxes);
	int rc;

	b->magic = BOXES_MAGIC;
	b->sock = -1;
	why_set(&b->no_cgroup, OK, "limits need sessions in boxes, and there are none");
	if (wanted == BOX_NONE) {
		*ret = TAKE(b);
		return OK;
	}
	if (!is_single_threaded())
		return why_set(why, ERR_INVALID, "boxes must be started before the first thread");
	IGNORE(cgroup_take(&b->cgroup, &b->no_cgroup));
	rc = leave_mounts(b, wanted, trial_dir, why);
	if (rc == OK)
		rc = start_keeper(b, wanted, why);
	if (rc != OK)
		return rc;
	if (required && b->level < wanted)
		return why_set(
		    why, ERR_DENIED, "isolation %s is not possible: %s", box_level_name(wanted), b->missing.text);
	*ret = TAKE(b);
	return OK;
}

void boxes_free(struct boxes **bp)
{
	struct boxes *b = *bp;

	if (b == NULL)
		return;
	OBJ_CHECK(b, BOXES_MAGIC);
	if (b->sock >= 0)
		close(b->sock);
	if (b->keeper > 0)
		while (waitpid(b->keeper, NULL, 0) < 0 && errno == EINTR)
			;
	cgroup_free(&b->cgroup);
	b->magic = 0;
	free(b);
	*bp = NULL;
}

enum box_level boxes_level(const struct boxes *b)
{
	return b->level;
}

const char *boxes_missing(const struct boxes *b)
{
	return b->missing.text;
}

bool boxes_may_mount(const struct boxes *b)
{
	return b->may_mount;
}

const char *boxes_no_mounts(const struct boxes *b)
{
	return b->may_mount ? "" : b->no_mounts.text;
}

int boxes_mount(const char *source, const char *at, const char *type, unsigned long flags, const char *options)
{
	return privilege_mount(source, at, type, flags, options);
}

int boxes_may_limit(const struct boxes *b, struct why *why)
{
	if (b->cgroup == NULL)
		return why_set(why, ERR_DENIED, "%s", b->no_cgroup.text);
	return cgroup_may_limit(b->cgroup, why);
}
