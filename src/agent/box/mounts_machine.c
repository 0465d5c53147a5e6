/* A box of root's: the folders of the machine. */
#include "agent/box/mounts_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <dirent.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_MOUNTINFO (4 * 1024 * 1024)

/* They are no files, or have their own rules, or sockets in them that an overlay cuts off. */
static bool is_left_alone(const char *name)
{
	static const char *const names[] = {".", "..", "proc", "sys", "dev", "run", "tmp", "lost+found"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		if (strcmp(name, names[i]) == 0)
			return true;
	return false;
}

static const char *own_name(struct view *v, char *name)
{
	v->names = mem_grow(v->names, &v->cap_names, v->n_names + 1, sizeof *v->names);
	return v->names[v->n_names++] = name;
}

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return strncmp(path, dir, n) == 0 && path[n] == '/';
}

static bool is_covered(const struct view *v, const char *path)
{
	for (size_t i = 0; i < v->n; i++)
		if (v->v[i].rule == RULE_OVERLAY && is_below(path, v->v[i].path))
			return true;
	return false;
}

/* The kernel writes blanks and the like as \ooo. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s != '\0'; s++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] >= '0' && s[2] <= '7' && s[3] >= '0' &&
		    s[3] <= '7') {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
}

/* An overlay does not show what is mounted in its lower folder: that is mounted again. The fifth field of a line is the
 * place. */
static void keep_mounts(struct view *v)
{
	AUTO_STR text = NULL;
	size_t len;

	if (text_read_file("/proc/self/mountinfo", MAX_MOUNTINFO, &text, &len) != OK)
		return;
	for (const char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
		const char *at = line;
		char *path;

		for (int i = 0; i < 4 && at != NULL; i++)
			at = (at = strchr(at, ' ')) != NULL ? at + 1 : NULL;
		if (at == NULL)
			return;
		path = str_ndup(at, strcspn(at, " \n"));
		unescape(path);
		if (is_covered(v, path))
			mounts_add_place(v, own_name(v, path), RULE_KEEP, open(path, O_PATH | O_NOFOLLOW | O_CLOEXEC));
		else
			free(path);
	}
}

void mounts_add_machine(struct view *v, const char *home)
{
	DIR *d = opendir("/");
	struct dirent *e;

	while (d != NULL && (e = readdir(d)) != NULL) {
		AUTO_STR name = str_printf("machine-%s", e->d_name);
		char *path;
		struct stat st;

		if (is_left_alone(e->d_name))
			continue;
		path = str_printf("/%s", e->d_name);
		if (strcmp(path, home) == 0 || lstat(path, &st) != 0 || !S_ISDIR(st.st_mode))
			free(path);
		else
			mounts_add_overlay(v, own_name(v, path), name);
	}
	if (d != NULL)
		closedir(d);
	keep_mounts(v);
}

void mounts_close_top(void)
{
	struct mount_attr a = {.attr_set = MOUNT_ATTR_RDONLY};

	IGNORE(mount_setattr(AT_FDCWD, "/", 0, &a, sizeof a));
}
