#include "agent/box/box_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#define BIT(cap) (UINT64_C(1) << (cap))

/* What container engines leave to root, without MKNOD: they have a device controller that makes it harmless. */
static const uint64_t kept = BIT(CAP_CHOWN) | BIT(CAP_DAC_OVERRIDE) | BIT(CAP_FOWNER) | BIT(CAP_FSETID) |
			     BIT(CAP_KILL) | BIT(CAP_SETGID) | BIT(CAP_SETUID) | BIT(CAP_SETPCAP) |
			     BIT(CAP_NET_BIND_SERVICE) | BIT(CAP_NET_RAW) | BIT(CAP_SYS_CHROOT) | BIT(CAP_AUDIT_WRITE) |
			     BIT(CAP_SETFCAP);

struct cap_sets {
	uint64_t effective, permitted, inheritable;
};

static int sets_get(struct cap_sets *s)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2];

	if (syscall(SYS_capget, &h, d) != 0)
		return err_from_errno(errno);
	*s = (struct cap_sets){.effective = d[0].effective | (uint64_t)d[1].effective << 32,
	    .permitted = d[0].permitted | (uint64_t)d[1].permitted << 32,
	    .inheritable = d[0].inheritable | (uint64_t)d[1].inheritable << 32};
	return OK;
}

static int sets_put(const struct cap_sets *s)
{
	struct __user_cap_header_struct h = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct d[2] = {
	    {(uint32_t)s->effective, (uint32_t)s->permitted, (uint32_t)s->inheritable},
	    {(uint32_t)(s->effective >> 32), (uint32_t)(s->permitted >> 32), (uint32_t)(s->inheritable >> 32)}};

	return syscall(SYS_capset, &h, d) == 0 ? OK : err_from_errno(errno);
}

bool privilege_may_mount(void)
{
	struct cap_sets s = {0};

	return sets_get(&s) == OK && (s.effective & BIT(CAP_SYS_ADMIN)) != 0;
}

bool privilege_has_any(void)
{
	struct cap_sets s = {0};

	return sets_get(&s) != OK || s.permitted != 0;
}

static int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	ssize_t n = fd >= 0 ? write(fd, text, strlen(text)) : -1;
	int rc = n == (ssize_t)strlen(text) ? OK : err_from_errno(errno);

	if (fd >= 0)
		close(fd);
	return rc;
}

int privilege_map_ids(uid_t uid, gid_t gid)
{
	char line[64];
	int rc, was = prctl(PR_GET_DUMPABLE);

	/* The files of a process that may not be dumped belong to root. Nothing of the box runs yet that could use the
	 * moment. */
	prctl(PR_SET_DUMPABLE, 1);
	rc = write_file("/proc/self/setgroups", "deny");
	snprintf(line, sizeof line, "%u %u 1\n", (unsigned)uid, (unsigned)uid);
	if (rc == OK)
		rc = write_file("/proc/self/uid_map", line);
	snprintf(line, sizeof line, "%u %u 1\n", (unsigned)gid, (unsigned)gid);
	if (rc == OK)
		rc = write_file("/proc/self/gid_map", line);
	prctl(PR_SET_DUMPABLE, was == 1 ? 1 : 0);
	return rc;
}

int privilege_only_mount(void)
{
	struct cap_sets s = {0};
	int rc = sets_get(&s);

	s.effective &= BIT(CAP_SYS_ADMIN);
	s.inheritable = 0;
	return rc == OK ? sets_put(&s) : rc;
}

int privilege_all(void)
{
	struct cap_sets s = {0};
	int rc = sets_get(&s);

	if (rc != OK || s.effective == s.permitted)
		return rc;
	s.effective = s.permitted;
	return sets_put(&s);
}

/* An overlay uses its upper folder with the rights of who mounted it, such as that to write in its own work folder,
 * which has no permissions. */
int privilege_mount(const char *source, const char *at, const char *type, unsigned long flags, const char *options)
{
	struct cap_sets was = {0}, all;
	int rc, saved;

	if (sets_get(&was) != OK)
		return -1;
	all = was;
	all.effective = all.permitted;
	if (all.effective != was.effective && sets_put(&all) != OK)
		return -1;
	rc = mount(source, at, type, flags, options);
	saved = errno;
	if (all.effective != was.effective)
		ENSURE(sets_put(&was) == OK);
	errno = saved;
	return rc;
}

int privilege_drop(bool privileged)
{
	uint64_t left = privileged ? kept : 0;
	struct cap_sets s = {0};

	if (!privileged && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_from_errno(errno);
	for (int cap = 0; prctl(PR_CAPBSET_READ, cap) >= 0; cap++)
		if ((left & BIT(cap)) == 0 && prctl(PR_CAPBSET_READ, cap) == 1 && prctl(PR_CAPBSET_DROP, cap) != 0)
			return err_from_errno(errno);
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	if (sets_get(&s) != OK)
		return ERR_IO;
	s = (struct cap_sets){.effective = s.permitted & left, .permitted = s.permitted & left};
	return sets_put(&s);
}
