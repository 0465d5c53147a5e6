/* What a box costs (agent/box/box.h):
 *   bench-box LEVEL DIR N   N times: open a box with DIR as its scratch folder and close it; then in one box N times
 * /bin/true, from the start to its status. LEVEL none: posix_spawn and waitpid, no boxes. */
#include "agent/box/box.h"
#include "base/mem.h"
#include "bench/measure.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const program[] = {"/bin/true", NULL};

static enum box_level level_named(const char *name)
{
	for (enum box_level l = BOX_NONE; l <= BOX_NAMESPACE; l++)
		if (strcmp(name, box_level_name(l)) == 0)
			return l;
	bench_die("%s is no level: none, process, namespace", name);
}

static struct box *open_one(struct boxes *b, const char *dir)
{
	const char *home = getenv("HOME");
	struct box_config cfg = {.scratch = dir, .own_tmp = true, .home = home};
	struct box *x;
	struct why why;

	if (box_open(b, &cfg, &x, &why) != OK)
		bench_die("%s", why.text);
	return x;
}

static void spawn_in_box(struct box *x, int null)
{
	struct why why;
	int status_fd, status;
	pid_t pid;

	if (box_spawn(x, &(struct box_spawn){.argv = program, .env = environ, .out_fd = null, .err_fd = null}, &pid,
		&status_fd, &why) != OK)
		bench_die("%s", why.text);
	poll(&(struct pollfd){status_fd, POLLIN, 0}, 1, -1);
	if (box_status(status_fd, &status) != OK || status != 0)
		bench_die("/bin/true ended with %d", status);
	close(status_fd);
}

static void spawn_outside(void)
{
	int status;
	pid_t pid;

	if (posix_spawn(&pid, program[0], NULL, NULL, (char *const *)program, environ) != 0 ||
	    waitpid(pid, &status, 0) != pid || status != 0)
		bench_die("cannot run %s", program[0]);
}

int main(int argc, char **argv)
{
	AUTO(boxes) b = NULL;
	struct box *x;
	struct why why;
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (argc != 4)
		bench_die("usage: bench-box LEVEL DIR N");
	size_t n = (size_t)bench_number("N", argv[3]);
	int64_t *t = mem_alloc(n * sizeof *t);
	AUTO_STR trial = str_printf("%s/trial", argv[2]);

	if (boxes_start(level_named(argv[1]), true, trial, &b, &why) != OK)
		bench_die("%s", why.text);
	putchar('{');
	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();

		x = open_one(b, argv[2]);
		box_close(&x, 0, 5000);
		t[i] = bench_now_ns() - from;
	}
	bench_print("session", t, n);
	putchar(',');
	x = open_one(b, argv[2]);
	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();

		if (x != NULL)
			spawn_in_box(x, null);
		else
			spawn_outside();
		t[i] = bench_now_ns() - from;
	}
	box_close(&x, 0, 5000);
	bench_print("spawn", t, n);
	puts("}");
	free(t);
	return 0;
}
