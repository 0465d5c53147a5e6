#include "agent/session/beneath.h"
#include "agent/session/session.h"
#include "agent/session/workspace.h"
#include "base/id.h"
#include "base/mem.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_LINKS 8

static struct place parent_of(const struct place *p)
{
	struct place up = {.root = p->root, .rel = str_dup(p->rel), .abs = str_dup(p->abs)};
	char *slash = strrchr(up.rel, '/');

	if (slash != NULL)
		*slash = '\0';
	else
		str_set(&up.rel, ".");
	*strrchr(up.abs, '/') = '\0';
	if (up.abs[0] == '\0')
		str_set(&up.abs, "/");
	return up;
}

/* Opens the folder, making what is missing on the way. */
static int open_folder(const struct session *s, const struct place *p, bool make, int *ret_fd, struct refusal *r)
{
	struct place up;
	int fd, rc = place_open(s, p, O_RDONLY | O_DIRECTORY, ret_fd, r);

	if (rc == OK || !make || strcmp(r->code, "not_found") != 0 || strcmp(p->rel, ".") == 0)
		return rc;
	up = parent_of(p);
	rc = open_folder(s, &up, true, &fd, r);
	place_fini(&up);
	if (rc != OK)
		return rc;
	if (mkdirat(fd, strrchr(p->abs, '/') + 1, 0777) != 0 && errno != EEXIST)
		rc = refuse_errno(r, errno, p->abs);
	close(fd);
	return rc != OK ? rc : place_open(s, p, O_RDONLY | O_DIRECTORY, ret_fd, r);
}

static int spot_plain(const struct session *s, const struct place *p, bool make, struct spot *ret, struct refusal *r)
{
	struct place up;
	int fd, rc;

	if (strcmp(p->rel, ".") == 0)
		return refuse_errno(r, EISDIR, p->abs);
	up = parent_of(p);
	rc = open_folder(s, &up, make, &fd, r);
	place_fini(&up);
	if (rc != OK)
		return rc;
	rc = place_check_real(s, p, fd, strrchr(p->abs, '/') + 1, false, r);
	if (rc != OK) {
		close(fd);
		return rc;
	}
	*ret = (struct spot){.dir_fd = fd, .name = str_dup(strrchr(p->abs, '/') + 1)};
	return OK;
}

/* The text of a link as a path of its own, or NULL if the spot holds no link. */
static char *link_target(const struct spot *at)
{
	char target[4096];
	AUTO_STR dir = NULL;
	ssize_t n;

	ENSURE(at->name != NULL);
	n = readlinkat(at->dir_fd, at->name, target, sizeof target - 1);

	if (n <= 0)
		return NULL;
	target[n] = '\0';
	if (target[0] == '/')
		return str_dup(target);
	/* Relative to where the folder really is, which links on the way to it may hide. */
	dir = fd_path(at->dir_fd);
	return str_printf("%s/%s", dir != NULL ? dir : "", target);
}

int place_spot(
    const struct session *s, const struct place *p, bool make, bool follow, struct spot *ret, struct refusal *r)
{
	struct spot at = {0};
	int rc = place_check_ignored(s, p, false, r);

	if (rc == OK)
		rc = spot_plain(s, p, make, &at, r);
	for (int i = 0; rc == OK && follow; i++) {
		AUTO_STR target = link_target(&at);
		struct place next = {0};

		if (target == NULL)
			break;
		spot_fini(&at);
		if (i == MAX_LINKS)
			return refuse_errno(r, ELOOP, p->abs);
		rc = place_find(s, target, &next, r);
		if (rc == OK)
			rc = place_check_ignored(s, &next, false, r);
		if (rc == OK)
			rc = spot_plain(s, &next, make, &at, r);
		place_fini(&next);
	}
	if (rc == OK)
		*ret = at;
	return rc;
}

void spot_fini(struct spot *s)
{
	if (s->name != NULL)
		close(s->dir_fd);
	str_free(&s->name);
}

static int write_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = write(fd, bytes, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		bytes += n;
		len -= (size_t)n;
	}
	return 0;
}

static int replace(const struct spot *at, const struct stat *old, const char *bytes, size_t len)
{
	char hex[17], tmp[64];
	int fd, failed;

	id_hex(hex, 8);
	snprintf(tmp, sizeof tmp, ".bullpen-%s.tmp", hex);
	fd = openat(at->dir_fd, tmp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
	if (fd < 0)
		return errno;
	failed = write_all(fd, bytes, len) != 0;
	if (!failed && old != NULL) {
		/* Only root can give a file away; for others it stays theirs, as with any editor. */
		IGNORE(fchown(fd, old->st_uid, old->st_gid));
		failed = fchmod(fd, old->st_mode & 07777) != 0;
	}
	failed = failed || renameat(at->dir_fd, tmp, at->dir_fd, at->name) != 0;
	failed = failed ? errno : 0;
	close(fd);
	if (failed)
		unlinkat(at->dir_fd, tmp, 0);
	return failed;
}

int place_write(const struct session *s, const struct place *p, const char *bytes, size_t len, struct refusal *r)
{
	struct spot at;
	struct stat st;
	bool there;
	int err = 0, rc = place_spot(s, p, true, true, &at, r);

	if (rc != OK)
		return rc;
	there = fstatat(at.dir_fd, at.name, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (!there && errno != ENOENT)
		err = errno;
	else if (there && S_ISDIR(st.st_mode))
		err = EISDIR;
	else if (there && !S_ISREG(st.st_mode))
		err = S_ISLNK(st.st_mode) ? ELOOP : ENXIO;
	else
		err = replace(&at, there ? &st : NULL, bytes, len);
	spot_fini(&at);
	return err != 0 ? refuse_errno(r, err, p->abs) : OK;
}
