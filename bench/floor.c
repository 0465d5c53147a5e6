/* What the machine itself costs: the floors of the table.
 *   bench-floor sync DIR N      N appends of 4 KiB, each made durable with fdatasync
 *   bench-floor wal DIR N       N SQLite transactions of one row, WAL, synchronous=FULL
 *   bench-floor spawn N CMD…    N times: start CMD, wait for its end
 *   bench-floor start N TEXT CMD…  N times: start CMD, wait until it says TEXT on stdout; memory of the last one
 *   bench-floor echo SERVER_CORE CLIENT_CORE N  N times 200 bytes over TCP to an epoll loop and back */
#include "base/mem.h"
#include "bench/measure.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sqlite3.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAYLOAD 200
#define WARM_UP 2000
#define START_LIMIT_MS 20000

static void print_one(const char *name, int64_t *samples, size_t n)
{
	putchar('{');
	bench_print(name, samples, n);
	puts("}");
}

static void floor_sync(const char *dir, size_t n)
{
	AUTO_STR path = str_printf("%s/floor.sync", dir);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
	int64_t *t = mem_alloc(n * sizeof *t);
	static const char block[4096];

	if (fd < 0)
		bench_die("cannot write %s: %s", path, strerror(errno));
	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();

		if (write(fd, block, sizeof block) != (ssize_t)sizeof block || fdatasync(fd) != 0)
			bench_die("cannot write %s: %s", path, strerror(errno));
		t[i] = bench_now_ns() - from;
	}
	close(fd);
	unlink(path);
	print_one("sync", t, n);
	free(t);
}

static void must(sqlite3 *db, int rc)
{
	if (rc != SQLITE_OK && rc != SQLITE_DONE)
		bench_die("sqlite: %s", sqlite3_errmsg(db));
}

static void floor_wal(const char *dir, size_t n)
{
	AUTO_STR path = str_printf("%s/floor.db", dir);
	int64_t *t = mem_alloc(n * sizeof *t);
	sqlite3 *db = NULL;
	sqlite3_stmt *insert = NULL;
	char row[PAYLOAD];

	memset(row, 'x', sizeof row);
	must(db, sqlite3_open(path, &db));
	must(db, sqlite3_exec(db,
		     "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=2000;"
		     "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, v TEXT)",
		     NULL, NULL, NULL));
	must(db, sqlite3_prepare_v2(db, "INSERT INTO t(v) VALUES(?)", -1, &insert, NULL));
	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();

		must(db, sqlite3_bind_text(insert, 1, row, sizeof row, SQLITE_STATIC));
		must(db, sqlite3_step(insert));
		must(db, sqlite3_reset(insert));
		t[i] = bench_now_ns() - from;
	}
	sqlite3_finalize(insert);
	sqlite3_close(db);
	print_one("wal", t, n);
	free(t);
}

/* stdout goes to `out` if that is a descriptor. */
static pid_t start(char **argv, int out)
{
	pid_t pid = fork();

	if (pid < 0)
		bench_die("fork: %s", strerror(errno));
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (out >= 0)
			dup2(out, STDOUT_FILENO);
		execvp(argv[0], argv);
		_exit(127);
	}
	return pid;
}

static void floor_spawn(size_t n, char **argv)
{
	int64_t *t = mem_alloc(n * sizeof *t);

	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();
		int status = 0;

		waitpid(start(argv, -1), &status, 0);
		t[i] = bench_now_ns() - from;
		if (status != 0)
			bench_die("%s ended with status %d", argv[0], status);
	}
	print_one("spawn", t, n);
	free(t);
}

static void wait_for_text(int fd, const char *text)
{
	char seen[8192];
	size_t len = 0;

	for (;;) {
		ssize_t n = read(fd, seen + len, sizeof seen - 1 - len);

		if (n <= 0)
			bench_die("the program ended before it said '%s'", text);
		len += (size_t)n;
		seen[len] = '\0';
		if (strstr(seen, text) != NULL)
			return;
		if (len == sizeof seen - 1)
			bench_die("the program says a lot, but not '%s'", text);
	}
}

/* Pss, Rss, Private_Dirty of /proc/PID/smaps_rollup as JSON fields. */
static void print_memory(pid_t pid)
{
	AUTO_STR path = str_printf("/proc/%d/smaps_rollup", (int)pid);
	FILE *f = fopen(path, "re");
	char line[256];

	if (f == NULL)
		bench_die("cannot read %s: %s", path, strerror(errno));
	while (fgets(line, sizeof line, f) != NULL) {
		char name[64];
		long kib;

		if (sscanf(line, "%63[^:]: %ld kB", name, &kib) == 2 &&
		    (strcmp(name, "Pss") == 0 || strcmp(name, "Rss") == 0 || strcmp(name, "Private_Dirty") == 0))
			printf(",\"%s\":%ld", name, kib);
	}
	fclose(f);
}

static void floor_start(size_t n, const char *text, char **argv)
{
	int64_t *t = mem_alloc(n * sizeof *t);

	putchar('{');
	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();
		int out[2];
		pid_t pid;

		if (pipe2(out, O_CLOEXEC) != 0)
			bench_die("pipe: %s", strerror(errno));
		pid = start(argv, out[1]);
		close(out[1]);
		wait_for_text(out[0], text);
		t[i] = bench_now_ns() - from;
		if (i == n - 1) {
			sleep(2); /* idle means that start-up is over */
			printf("\"pid\":%d", (int)pid);
			print_memory(pid);
			putchar(',');
		}
		kill(pid, SIGTERM);
		waitpid(pid, NULL, 0);
		close(out[0]);
	}
	bench_print("start", t, n);
	puts("}");
	free(t);
}

static int listen_somewhere(struct sockaddr_in *ret)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof *ret;

	*ret = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (fd < 0 || bind(fd, (struct sockaddr *)ret, sizeof *ret) != 0 || listen(fd, 8) != 0 ||
	    getsockname(fd, (struct sockaddr *)ret, &len) != 0)
		bench_die("cannot listen: %s", strerror(errno));
	return fd;
}

static _Noreturn void echo_server(int listener)
{
	int ep = epoll_create1(EPOLL_CLOEXEC), on = 1;
	int fd = accept(listener, NULL, NULL);
	struct epoll_event e = {.events = EPOLLIN};
	char buf[4096];

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	for (;;) {
		ssize_t n;

		if (epoll_wait(ep, &e, 1, -1) < 1)
			continue;
		n = read(fd, buf, sizeof buf);
		if (n <= 0 || write(fd, buf, (size_t)n) != n)
			_exit(0);
	}
}

static void echo_once(int ep, int fd)
{
	char buf[PAYLOAD] = {0};
	size_t got = 0;

	if (write(fd, buf, sizeof buf) != (ssize_t)sizeof buf)
		bench_die("echo: %s", strerror(errno));
	while (got < sizeof buf) {
		struct epoll_event e;
		ssize_t n;

		if (epoll_wait(ep, &e, 1, -1) < 1)
			continue;
		n = read(fd, buf, sizeof buf);
		if (n <= 0)
			bench_die("the echo server is gone");
		got += (size_t)n;
	}
}

static void floor_echo(int server_core, int client_core, size_t n)
{
	struct sockaddr_in at;
	struct epoll_event e = {.events = EPOLLIN};
	int listener = listen_somewhere(&at), ep = epoll_create1(EPOLL_CLOEXEC), on = 1, fd;
	int64_t *t = mem_alloc(n * sizeof *t);
	pid_t pid = fork();

	if (pid == 0) {
		bench_pin(server_core);
		echo_server(listener);
	}
	bench_pin(client_core);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
		bench_die("connect: %s", strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	for (size_t i = 0; i < WARM_UP; i++)
		echo_once(ep, fd);
	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();

		echo_once(ep, fd);
		t[i] = bench_now_ns() - from;
	}
	close(fd);
	waitpid(pid, NULL, 0);
	print_one("echo", t, n);
	free(t);
}

int main(int argc, char **argv)
{
	const char *what = argc > 1 ? argv[1] : "";

	if (strcmp(what, "sync") == 0 && argc == 4)
		floor_sync(argv[2], (size_t)bench_number("N", argv[3]));
	else if (strcmp(what, "wal") == 0 && argc == 4)
		floor_wal(argv[2], (size_t)bench_number("N", argv[3]));
	else if (strcmp(what, "spawn") == 0 && argc > 3)
		floor_spawn((size_t)bench_number("N", argv[2]), argv + 3);
	else if (strcmp(what, "start") == 0 && argc > 4)
		floor_start((size_t)bench_number("N", argv[2]), argv[3], argv + 4);
	else if (strcmp(what, "echo") == 0 && argc == 5)
		floor_echo((int)bench_number("core", argv[2]), (int)bench_number("core", argv[3]),
		    (size_t)bench_number("N", argv[4]));
	else
		bench_die("see the head of bench/floor.c");
	return 0;
}
