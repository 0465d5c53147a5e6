/* In a user namespace the files of root belong to nobody, and ssh refuses configuration that it includes from a file
 * which is neither the user's nor root's. So the box sees copies of the user's own. */
#include "agent/box/box_priv.h"
#include "base/mem.h"
#include "base/text.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_CONFIG_BYTES (256 * 1024)
#define MAX_CONFIG_FILES 64

static bool copy_file(const char *from, const char *to)
{
	AUTO_STR text = NULL;
	size_t len;
	ssize_t n;
	int fd;

	if (text_read_file(from, MAX_CONFIG_BYTES, &text, &len) != OK)
		return false;
	fd = open(to, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
	if (fd < 0)
		return false;
	n = write(fd, text, len);
	close(fd);
	return n == (ssize_t)len;
}

static void own_folder(const char *path, const char *copy)
{
	DIR *d = opendir(path);
	struct dirent *e;

	if (d == NULL)
		return;
	IGNORE(mkdir(copy, 0755));
	for (int n = 0; (e = readdir(d)) != NULL && n < MAX_CONFIG_FILES;) {
		AUTO_STR from = str_printf("%s/%s", path, e->d_name);
		AUTO_STR to = str_printf("%s/%s", copy, e->d_name);

		if (text_has_suffix(e->d_name, ".conf"))
			n += copy_file(from, to);
	}
	closedir(d);
	IGNORE(mount(copy, path, NULL, MS_BIND, NULL));
}

/* The user's own configuration may be root's, so that the user cannot change it. */
static void own_user_config(const char *scratch)
{
	const struct passwd *pw = getpwuid(getuid());
	AUTO_STR file = str_printf("%s/.ssh/config", pw != NULL ? pw->pw_dir : "");
	AUTO_STR copy = str_printf("%s/ssh_config.user", scratch);
	struct stat st;

	if (stat(file, &st) == 0 && S_ISREG(st.st_mode) && st.st_uid != getuid() && (st.st_mode & 022) == 0 &&
	    copy_file(file, copy))
		IGNORE(mount(copy, file, NULL, MS_BIND, NULL));
}

void mounts_own_ssh(const char *scratch)
{
	/* What Debian and Ubuntu include, and what Fedora's files of that folder do. */
	static const char *const folder = "/etc/ssh/ssh_config.d";
	static const char *const file = "/etc/crypto-policies/back-ends/openssh.config";
	AUTO_STR folder_copy = str_printf("%s/ssh_config.d", scratch);
	AUTO_STR file_copy = str_printf("%s/ssh_config.crypto", scratch);

	own_folder(folder, folder_copy);
	if (copy_file(file, file_copy))
		IGNORE(mount(file_copy, file, NULL, MS_BIND, NULL));
	own_user_config(scratch);
}
