#include "agent/session/tree.h"
#include "agent/session/tree_priv.h"
#include "agent/box/box.h"
#include "base/folder.h"
#include "base/log.h"
#include "base/mem.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TREE_MAGIC 0x74726565u

struct tree {
	unsigned magic;
	char *seed, *dir, *path, *upper, *leave_out;
	char **dear; /* owned, NULL-terminated */
	bool may_mount;
	bool userxattr; /* this process may not use trusted attributes */
	bool mounted, covers;
	enum tree_method method;
	struct tree_cost cost;
};

const char *tree_method_name(enum tree_method m)
{
	static const char *const names[] = {"overlay", "reflink", "copy"};

	return names[m];
}

static char **copy_list(const char *const *list)
{
	size_t n = 0;
	char **ret;

	while (list != NULL && list[n] != NULL)
		n++;
	ret = mem_zalloc((n + 1) * sizeof *ret);
	for (size_t i = 0; i < n; i++)
		ret[i] = str_dup(list[i]);
	return ret;
}

/* The session's own folder takes the place of the seed's, which is not to be seen behind it. */
static int make_opaque(const struct tree *t, struct why *why)
{
	AUTO_STR path = str_printf("%s/%s", t->upper, t->leave_out);

	if (mkdir(path, 0755) != 0 && errno != EEXIST)
		return why_set(why, err_from_errno(errno), "cannot make '%.300s': %s", path, strerror(errno));
	if (t->method == TREE_OVERLAY &&
	    setxattr(path, t->userxattr ? "user.overlay.opaque" : "trusted.overlay.opaque", "y", 1, 0) != 0)
		return why_set(why, ERR_DENIED, "the file system of '%.300s' has no attributes for overlays", path);
	return OK;
}

static int make_layers(struct tree *t, struct why *why)
{
	AUTO_STR work = str_printf("%s/work", t->dir);
	struct stat st;
	int rc;

	str_free(&t->upper);
	t->upper = str_printf("%s/%s", t->dir, t->method == TREE_OVERLAY ? "upper" : "tree");
	rc = folder_make(t->upper, why);
	if (rc == OK && t->method == TREE_OVERLAY)
		rc = folder_make(work, why);
	/* The top of an overlay has the owner and mode of its upper folder. */
	if (rc == OK && stat(t->seed, &st) == 0)
		IGNORE(chmod(t->upper, (st.st_mode & 07777) | 0700));
	if (rc == OK)
		t->userxattr = tree_needs_userxattr(t->upper);
	if (rc == OK && t->leave_out != NULL)
		rc = make_opaque(t, why);
	return rc;
}

int tree_new(const struct tree_config *cfg, struct tree **ret, struct why *why)
{
	struct tree *t = NEW(struct tree);
	int rc;

	t->magic = TREE_MAGIC;
	t->seed = str_dup(cfg->seed);
	t->dir = str_dup(cfg->dir);
	t->leave_out = str_dup(cfg->leave_out);
	t->dear = copy_list(cfg->dear);
	t->may_mount = cfg->may_mount;
	t->covers = cfg->at != NULL;
	t->path = t->covers ? str_dup(cfg->at) : str_printf("%s/tree", cfg->dir);
	t->method = cfg->may_mount ? cfg->best : MAX(cfg->best, TREE_REFLINK);
	rc = make_layers(t, why);
	if (rc == ERR_DENIED) {
		t->method = TREE_REFLINK;
		rc = make_layers(t, why);
	}
	if (rc == OK)
		*ret = t;
	else
		tree_remove(&t);
	return rc;
}

const char *tree_stage(const struct tree *t)
{
	return t->upper;
}

/* Folders are named by descriptors: a path may hold the commas and colons that mean something to the kernel here. */
static int mount_overlay(struct tree *t)
{
	AUTO_STR work = str_printf("%s/work", t->dir);
	AUTO_STR made = str_printf("%s/work/work", t->dir);
	const int fd[3] = {open(t->seed, O_PATH | O_DIRECTORY | O_CLOEXEC),
	    open(t->upper, O_PATH | O_DIRECTORY | O_CLOEXEC), open(work, O_PATH | O_DIRECTORY | O_CLOEXEC)};
	AUTO_STR options = str_printf("lowerdir=/proc/self/fd/%d,upperdir=/proc/self/fd/%d,workdir=/proc/self/fd/%d,"
				      "%s,index=off,metacopy=off,xino=auto",
	    fd[0], fd[1], fd[2], t->userxattr ? "userxattr" : "redirect_dir=on");
	int rc = ERR_IO;

	if (fd[0] >= 0 && fd[1] >= 0 && fd[2] >= 0 && (t->covers || mkdir(t->path, 0700) == 0 || errno == EEXIST))
		rc = boxes_mount("bullpen", t->path, "overlay", MS_NOATIME | MS_NODEV, options) == 0
			 ? OK
			 : err_from_errno(errno);
	if (rc == OK)
		IGNORE(chmod(made, 0700)); /* the kernel's: without permissions its user could not remove it */
	for (int i = 0; i < 3; i++)
		if (fd[i] >= 0)
			close(fd[i]);
	t->mounted = rc == OK;
	return rc;
}

/* The way of copying, after an overlay was refused: what was staged moves along. */
static int fall_back(struct tree *t, struct why *why)
{
	AUTO_STR staged = TAKE(t->upper);
	AUTO_STR wanted = str_printf("%s/tree", t->dir);
	AUTO_STR work = str_printf("%s/work", t->dir);

	t->method = TREE_REFLINK;
	tree_delete(work);
	if (!t->covers)
		IGNORE(rmdir(t->path));
	if (rename(staged, wanted) != 0)
		return why_set(why, err_from_errno(errno), "cannot move '%.200s': %s", staged, strerror(errno));
	t->upper = TAKE(wanted);
	return OK;
}

static int copy_seed(struct tree *t, int cancel_fd, struct why *why)
{
	struct tree_copy c = {.from = t->seed,
	    .to = t->upper,
	    .leave_out = t->leave_out,
	    .dear = (const char *const *)t->dear,
	    .reflink = t->method == TREE_REFLINK,
	    .cancel_fd = cancel_fd};
	int rc = tree_copy(&c, &t->cost, why);

	if (!c.reflink)
		t->method = TREE_COPY;
	if (rc != OK || !t->covers)
		return rc;
	if (mount(t->upper, t->path, NULL, MS_BIND, NULL) != 0)
		return why_set(
		    why, err_from_errno(errno), "cannot show the copy at '%.300s': %s", t->path, strerror(errno));
	t->mounted = true;
	return OK;
}

int tree_raise(struct tree *t, int cancel_fd, struct why *why)
{
	OBJ_CHECK(t, TREE_MAGIC);
	if (t->method == TREE_OVERLAY) {
		struct why foreign = {""};
		int rc = t->userxattr ? tree_is_own(t->seed, t->leave_out, &foreign) : OK;

		if (rc == OK)
			rc = mount_overlay(t);
		if (rc == OK)
			return OK;
		log_debug("tree.copied", "seed=%s reason=%s", log_quote(t->seed),
		    log_quote(foreign.text[0] != '\0' ? foreign.text : "an overlay is refused"));
		rc = fall_back(t, why);
		if (rc != OK)
			return rc;
	}
	return copy_seed(t, cancel_fd, why);
}

int tree_find(const char *seed, const char *dir, struct tree **ret, struct why *why)
{
	AUTO_STR upper = str_printf("%s/upper", dir);
	AUTO_STR copy = str_printf("%s/tree", dir);
	bool overlay = access(upper, F_OK) == 0;
	struct tree *t;

	if (!overlay && access(copy, F_OK) != 0)
		return why_set(why, ERR_NOT_FOUND, "'%.300s' holds no workspace", dir);
	t = NEW(struct tree);
	t->magic = TREE_MAGIC;
	t->seed = str_dup(seed);
	t->dir = str_dup(dir);
	t->path = TAKE(copy);
	t->dear = copy_list(NULL);
	t->method = overlay ? TREE_OVERLAY : TREE_COPY;
	t->upper = overlay ? TAKE(upper) : str_dup(t->path);
	t->userxattr = tree_needs_userxattr(t->upper);
	if (overlay && mount_overlay(t) != OK) {
		tree_free(&t);
		return why_set(why, ERR_IO, "the workspace in '%.300s' cannot be shown again", dir);
	}
	*ret = t;
	return OK;
}

const char *tree_path(const struct tree *t)
{
	return t->path;
}

enum tree_method tree_method(const struct tree *t)
{
	return t->method;
}

const struct tree_cost *tree_cost(const struct tree *t)
{
	return &t->cost;
}

void tree_free(struct tree **tp)
{
	struct tree *t = TAKE(*tp);

	if (t == NULL)
		return;
	OBJ_CHECK(t, TREE_MAGIC);
	/* Lazily: a process in uninterruptible sleep may still hold it. */
	if (t->mounted)
		IGNORE(umount2(t->path, MNT_DETACH));
	for (size_t i = 0; t->dear[i] != NULL; i++)
		free(t->dear[i]);
	free(t->dear);
	free(t->seed);
	free(t->dir);
	free(t->path);
	free(t->upper);
	free(t->leave_out);
	free(t);
}

void tree_remove(struct tree **tp)
{
	AUTO_STR dir = *tp != NULL ? str_dup((*tp)->dir) : NULL;

	tree_free(tp);
	if (dir != NULL)
		tree_delete(dir);
}
