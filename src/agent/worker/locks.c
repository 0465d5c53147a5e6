#include "agent/worker/locks.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_NOTE 8192

/* Private to the user; NULL if there is none that can be trusted. */
static char *runtime_folder(void)
{
	const char *run = getenv("XDG_RUNTIME_DIR");
	char *dir = run != NULL && run[0] == '/' ? str_printf("%s/agent-worker", run)
						 : str_printf("/tmp/agent-worker-%ld", (long)geteuid());
	struct stat st;

	if ((mkdir(dir, 0700) != 0 && errno != EEXIST) || lstat(dir, &st) != 0 || !S_ISDIR(st.st_mode) ||
	    st.st_uid != geteuid() || (st.st_mode & 022) != 0)
		str_free(&dir);
	return dir;
}

static void write_note(const char *path, const char *data_dir)
{
	AUTO_STR text = str_printf("%ld\n%s\n", (long)getpid(), data_dir != NULL ? data_dir : "");
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600);

	if (fd < 0)
		return;
	IGNORE(write(fd, text, strlen(text)));
	close(fd);
}

/* "process 17 (data folder /x)" as the note has it, if that process lives; malloc'ed or NULL. */
static char *read_note(const char *path)
{
	AUTO_STR text = NULL;
	size_t len;
	char *end;
	long pid;

	if (text_read_file(path, MAX_NOTE, &text, &len) != OK)
		return NULL;
	pid = strtol(text, &end, 10);
	if (pid <= 0 || *end != '\n' || (kill((pid_t)pid, 0) != 0 && errno != EPERM))
		return NULL;
	end[1 + strcspn(end + 1, "\n")] = '\0';
	return str_printf("process %ld (data folder %s)", pid, end[1] != '\0' ? end + 1 : "none");
}

/* What the kernel says: "1: FLOCK  ADVISORY  WRITE 4711 fe:00:1234 0 EOF". Of another user there is no note. */
static char *ask_kernel(const struct stat *st)
{
	AUTO_STR text = NULL;
	AUTO_STR inode = str_printf(":%llu ", (unsigned long long)st->st_ino);
	size_t len;

	if (text_read_file("/proc/locks", 1 << 20, &text, &len) != OK)
		return NULL;
	for (const char *line = text; *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
		AUTO_STR one = str_ndup(line, strcspn(line, "\n"));
		int pid = 0;

		if (strstr(one, inode) != NULL && sscanf(one, "%*d: FLOCK %*s WRITE %d", &pid) == 1 && pid > 0)
			return str_printf("process %d", pid);
	}
	return NULL;
}

static char *holder_of(const char *note, const struct stat *st)
{
	char *holder = note != NULL ? read_note(note) : NULL;

	if (holder == NULL)
		holder = ask_kernel(st);
	return holder != NULL ? holder : str_dup("another process");
}

int lock_seed(const char *top, const char *data_dir, int *ret_fd, struct why *why)
{
	AUTO_STR dir = runtime_folder();
	AUTO_STR note = NULL;
	AUTO_STR holder = NULL;
	struct stat st;
	int fd = open(top, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	*ret_fd = -1;
	if (fd < 0 || fstat(fd, &st) != 0) {
		if (fd >= 0)
			close(fd);
		return why_set(why, ERR_IO, "cannot open %.300s: %s", top, strerror(errno));
	}
	if (dir != NULL)
		note =
		    str_printf("%s/seed-%llx-%llx", dir, (unsigned long long)st.st_dev, (unsigned long long)st.st_ino);
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		if (note != NULL)
			write_note(note, data_dir);
		*ret_fd = fd;
		return OK;
	}
	if (errno != EWOULDBLOCK) { /* a file system without locks */
		close(fd);
		return OK;
	}
	holder = holder_of(note, &st);
	close(fd);
	return why_set(why, ERR_CONFLICT,
	    "the folder %.200s is served by another worker, %.200s: one worker for each folder", top, holder);
}

int lock_worker_id(const char *endpoint, const char *worker_id, const char *data_dir, int *ret_fd, struct why *why)
{
	AUTO_STR dir = runtime_folder();
	AUTO_STR both = str_printf("%s|%s", endpoint, worker_id);
	AUTO_STR path = NULL;
	AUTO_STR holder = NULL;
	char hash[SHA256_HEX_LEN];
	struct stat st;
	int fd;

	*ret_fd = -1;
	if (dir == NULL)
		return OK;
	sha256_hex(both, strlen(both), hash);
	path = str_printf("%s/id-%s", dir, hash);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (fd < 0)
		return OK;
	if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
		write_note(path, data_dir);
		*ret_fd = fd;
		return OK;
	}
	if (errno != EWOULDBLOCK || fstat(fd, &st) != 0) {
		close(fd);
		return OK;
	}
	holder = holder_of(path, &st);
	close(fd);
	return why_set(why, ERR_CONFLICT, "worker id %.130s is in use on this machine by %.200s", worker_id, holder);
}
