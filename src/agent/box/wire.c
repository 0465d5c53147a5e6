#include "agent/box/box_priv.h"
#include "base/mem.h"
#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/* More than any ARG_MAX: the stack limit of 8 MiB gives 2 MiB. */
#define TEXTS_MAX (64u * 1024 * 1024)

union control {
	struct cmsghdr align;
	char room[CMSG_SPACE(sizeof(int) * PACKET_FDS) + CMSG_SPACE(sizeof(struct ucred))];
};

int wire_send(int sock, const struct packet *p, const int *fds, size_t n_fds)
{
	struct packet copy = *p;
	struct iovec io = {&copy, sizeof copy};
	union control control;
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
	ssize_t n;

	ENSURE(n_fds <= PACKET_FDS);
	copy.n_fds = (uint32_t)n_fds;
	if (n_fds > 0) {
		memset(&control, 0, sizeof control);
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		control.align.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
		memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * n_fds);
	}
	do
		n = sendmsg(sock, &m, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == EPIPE || errno == ECONNRESET ? ERR_CLOSED : ERR_IO;
	return OK;
}

static int wait_readable(int sock, int timeout_ms)
{
	struct pollfd p = {sock, POLLIN, 0};
	int n;

	do
		n = poll(&p, 1, timeout_ms);
	while (n < 0 && errno == EINTR);
	return n > 0 ? OK : n == 0 ? ERR_TIMEOUT : ERR_IO;
}

static void take_control(struct msghdr *m, struct packet *ret, pid_t *ret_pid, size_t *n_fds)
{
	*n_fds = 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c != NULL; c = CMSG_NXTHDR(m, c)) {
		if (c->cmsg_level != SOL_SOCKET)
			continue;
		if (c->cmsg_type == SCM_RIGHTS) {
			*n_fds = MIN((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), PACKET_FDS);
			memcpy(ret->fd, CMSG_DATA(c), *n_fds * sizeof(int));
		} else if (c->cmsg_type == SCM_CREDENTIALS && ret_pid != NULL) {
			struct ucred who;

			memcpy(&who, CMSG_DATA(c), sizeof who);
			*ret_pid = who.pid;
		}
	}
}

int wire_recv(int sock, int timeout_ms, struct packet *ret, pid_t *ret_pid)
{
	struct iovec io = {ret, sizeof *ret};
	union control control;
	struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
	int rc = wait_readable(sock, timeout_ms);
	size_t n_fds;
	ssize_t n;

	if (rc != OK)
		return rc;
	do
		n = recvmsg(sock, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
	while (n < 0 && errno == EINTR);
	if (n < 0)
		return errno == ECONNRESET ? ERR_CLOSED : ERR_IO;
	if (n == 0)
		return ERR_CLOSED;
	for (size_t i = 0; i < PACKET_FDS; i++)
		ret->fd[i] = -1;
	take_control(&m, ret, ret_pid, &n_fds);
	if (n == sizeof *ret && n_fds == ret->n_fds)
		return OK;
	/* Too many open files, for instance: the kernel delivers the packet without them. */
	wire_close_fds(ret);
	return ERR_IO;
}

void wire_close_fds(struct packet *p)
{
	for (size_t i = 0; i < PACKET_FDS; i++) {
		if (p->fd[i] >= 0)
			close(p->fd[i]);
		p->fd[i] = -1;
	}
}

void texts_add(struct texts *t, const char *s)
{
	size_t len = strlen(s) + 1;

	t->v = mem_grow(t->v, &t->cap, t->len + len, 1);
	memcpy(t->v + t->len, s, len);
	t->len += len;
	t->n++;
}

int texts_to_fd(const struct texts *t)
{
	int fd = memfd_create("box-texts", MFD_CLOEXEC);
	size_t at = 0;

	while (fd >= 0 && at < t->len) {
		ssize_t n = pwrite(fd, t->v + at, t->len - at, (off_t)at);

		if (n > 0) {
			at += (size_t)n;
		} else if (errno != EINTR) {
			close(fd);
			fd = -1;
		}
	}
	return fd;
}

void texts_fini(struct texts *t)
{
	free(t->v);
	*t = (struct texts){0};
}

int texts_read(int fd, uint64_t bytes, uint32_t n, char **ret_block, char ***ret)
{
	char *block, *at;
	char **v;
	size_t have = 0;

	if (bytes == 0 || bytes > TEXTS_MAX || n > bytes)
		return ERR_TOO_LARGE;
	block = mem_alloc(bytes);
	while (have < bytes) {
		ssize_t got = pread(fd, block + have, bytes - have, (off_t)have);

		if (got == 0 || (got < 0 && errno != EINTR))
			break;
		have += got > 0 ? (size_t)got : 0;
	}
	if (have < bytes || block[bytes - 1] != '\0') {
		free(block);
		return ERR_IO;
	}
	/* Each list gets its own end, so there is room for one NULL a list. */
	v = mem_zalloc((n + 2) * sizeof *v);
	at = block;
	for (uint32_t i = 0; i < n && at < block + bytes; i++, at += strlen(at) + 1)
		v[i] = at;
	*ret_block = block;
	*ret = v;
	return OK;
}
