#include "base/process.h"
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The name in parentheses may hold anything, parentheses included. */
uint64_t process_start_of(const char *stat)
{
	const char *after = strrchr(stat, ')');
	uint64_t start;

	if (after == NULL ||
	    sscanf(after + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %" SCNu64,
		&start) != 1)
		return 0;
	return start;
}

static uint64_t start_now(pid_t pid)
{
	char path[32], text[1024];
	ssize_t n = 0;
	int fd;

	snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, text, sizeof text - 1);
		close(fd);
	}
	text[n > 0 ? n : 0] = '\0';
	return process_start_of(text);
}

/* The descriptor holds on to one process. If that is the right one after it was opened, it is when the signal goes out,
 * whatever becomes of the number in between. */
bool process_signal(pid_t pid, uint64_t start, int sig)
{
	int fd, rc;

	if (pid <= 0 || start == 0)
		return false;
	fd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (fd < 0 && errno == ESRCH)
		return false;
	if (start_now(pid) != start)
		rc = -1;
	else if (fd >= 0)
		rc = (int)syscall(SYS_pidfd_send_signal, fd, sig, NULL, 0);
	else /* a kernel without, or no descriptor left: the number is all there is */
		rc = kill(pid, sig);
	if (fd >= 0)
		close(fd);
	return rc == 0;
}
