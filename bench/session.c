/* What a session costs (agent/session/session.h):
 *   bench-session LEVEL SEED URL DATA N   a worker's first opening of a session on SEED, a clone of URL ("-": a plain
 * folder), then N times: open and close at once, open and publish one changed file and close, open and close with
 * unpublished work. LEVEL: none, process or namespace; with the privilege to mount the sessions are overlays.
 *
 * The steps of an opening are timed here and not in the product: the program is linked with --wrap (bench/meson.build),
 * so that calls from one file to another come through this one. */
#include "agent/box/box.h"
#include "agent/session/context_inventory.h"
#include "agent/session/depot.h"
#include "agent/session/exec.h"
#include "agent/session/session.h"
#include "agent/session/tree.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/measure.h"
#include <fcntl.h>
#include <pthread.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#define STEPS_MAX 64
#define LIMIT_MS 600000

/* Of the openings that are counted. */
static struct step {
	char name[32];
	int64_t ns;
	size_t count;
} steps[STEPS_MAX];
static size_t n_steps;
static bool counting;
static pthread_mutex_t steps_lock = PTHREAD_MUTEX_INITIALIZER;
static struct tree_cost last_cost;

static void note_step(const char *name, int64_t from_ns)
{
	int64_t ns = bench_now_ns() - from_ns;
	size_t i = 0;

	pthread_mutex_lock(&steps_lock);
	while (i < n_steps && strcmp(steps[i].name, name) != 0)
		i++;
	if (counting && i < STEPS_MAX) {
		if (i == n_steps)
			snprintf(steps[n_steps++].name, sizeof steps[i].name, "%s", name);
		steps[i].ns += ns;
		steps[i].count++;
	}
	pthread_mutex_unlock(&steps_lock);
}

/* The linker sends calls of NAME to __wrap_NAME; what it was is __real_NAME. */
#define WRAP(type, name, params, args)                                                                                 \
	type __real_##name params;                                                                                     \
	type __wrap_##name params;                                                                                     \
	type __wrap_##name params                                                                                      \
	{                                                                                                              \
		int64_t from = bench_now_ns();                                                                         \
		type result = __real_##name args;                                                                      \
                                                                                                                       \
		note_step(#name, from);                                                                                \
		return result;                                                                                         \
	}
WRAP(int, depot_open, (const char *dir, const struct seed *seed, struct depot *ret, struct why *why),
    (dir, seed, ret, why))
WRAP(int, depot_make_checkout,
    (const struct depot *k, const struct seed *seed, const char *dir, const struct depot_checkout *want,
	struct why *why),
    (k, seed, dir, want, why))
WRAP(int, tree_new, (const struct tree_config *cfg, struct tree **ret, struct why *why), (cfg, ret, why))
WRAP(int, box_open, (struct boxes * b, const struct box_config *cfg, struct box **ret, struct why *why),
    (b, cfg, ret, why))

int __real_tree_raise(struct tree *t, int cancel_fd, struct why *why);
int __wrap_tree_raise(struct tree *t, int cancel_fd, struct why *why);
int __wrap_tree_raise(struct tree *t, int cancel_fd, struct why *why)
{
	int64_t from = bench_now_ns();
	int rc = __real_tree_raise(t, cancel_fd, why);

	note_step("tree_raise", from);
	last_cost = *tree_cost(t);
	return rc;
}

void __real_context_inventory(const char *const *roots, size_t n_roots, json_t *info, json_t *warnings);
void __wrap_context_inventory(const char *const *roots, size_t n_roots, json_t *info, json_t *warnings);
void __wrap_context_inventory(const char *const *roots, size_t n_roots, json_t *info, json_t *warnings)
{
	int64_t from = bench_now_ns();

	__real_context_inventory(roots, n_roots, info, warnings);
	note_step("context_inventory", from);
}

/* git, by its command. */
int __real_exec_run(const struct exec_spec *spec, struct exec_result *ret, struct why *why);
int __wrap_exec_run(const struct exec_spec *spec, struct exec_result *ret, struct why *why);
int __wrap_exec_run(const struct exec_spec *spec, struct exec_result *ret, struct why *why)
{
	int64_t from = bench_now_ns();
	int rc = __real_exec_run(spec, ret, why);
	size_t i = 1;
	char name[32];

	while (spec->argv != NULL && spec->argv[i] != NULL && strcmp(spec->argv[i], "-c") == 0)
		i += 2;
	snprintf(name, sizeof name, "git %.20s", spec->argv != NULL && spec->argv[i] != NULL ? spec->argv[i] : "?");
	note_step(name, from);
	return rc;
}

/* Of this process and the programs that it waited for: git, but not what runs in boxes. */
static int64_t used_ns(void)
{
	struct rusage own, children;

	getrusage(RUSAGE_SELF, &own);
	getrusage(RUSAGE_CHILDREN, &children);
	return 1000 *
	       ((own.ru_utime.tv_sec + own.ru_stime.tv_sec + children.ru_utime.tv_sec + children.ru_stime.tv_sec) *
		       (int64_t)1000000 +
		   own.ru_utime.tv_usec + own.ru_stime.tv_usec + children.ru_utime.tv_usec + children.ru_stime.tv_usec);
}

struct run {
	struct session *s;
	const char *url; /* "": none */
	char method[16];
	size_t n; /* openings so far */
	int64_t last_ns;
};

static void open_one(struct run *r)
{
	AUTO_STR agent = str_printf("bc-%d-%zu", (int)getpid(), r->n++); /* no branch of another run */
	AUTO_STR branch = str_printf("agent/%s", agent);
	AUTO_JSON info = NULL;
	struct session_failure fail = {0};
	int64_t from = bench_now_ns();

	if (session_open(r->s,
		&(struct session_open){.agent_id = agent,
		    .repo_url = r->url,
		    .starting_ref = "",
		    .branch = r->url[0] != '\0' ? branch : ""},
		-1, clock_mono_ms() + LIMIT_MS, &info, &fail) != OK)
		bench_die("cannot open: %s", fail.why.text);
	r->last_ns = bench_now_ns() - from;
	snprintf(r->method, sizeof r->method, "%s", json_string_value(json_object_get(info, "workspace")));
}

static int64_t close_one(struct run *r)
{
	int64_t from = bench_now_ns();

	session_close(r->s, NULL);
	return bench_now_ns() - from;
}

static void change_a_file(struct run *r)
{
	AUTO_STR path = str_printf("%s/changed.txt", session_primary_root(r->s));
	AUTO_STR text = str_printf("session %zu\n", r->n);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) < 0)
		bench_die("cannot write %s", path);
	close(fd);
	session_touch(r->s);
}

static int64_t publish_one(struct run *r)
{
	AUTO_JSON info = NULL;
	struct session_failure fail = {0};
	int64_t from;

	change_a_file(r);
	from = bench_now_ns();
	if (session_publish(r->s,
		&(struct session_publish){.message = "Work", .author_name = "Bench", .author_email = "b@example.test"},
		-1, clock_mono_ms() + LIMIT_MS, &info, &fail) != OK)
		bench_die("cannot publish: %s", fail.why.text);
	return bench_now_ns() - from;
}

static void print_steps(size_t openings)
{
	printf(",\"steps\":{");
	for (size_t i = 0; i < n_steps; i++)
		printf("%s\"%s\":{\"n\":%.2f,\"us\":%.1f}", i > 0 ? "," : "", steps[i].name,
		    (double)steps[i].count / (double)openings, (double)steps[i].ns / 1000 / (double)openings);
	putchar('}');
}

static void measure(struct run *r, size_t n)
{
	int64_t *t = mem_alloc(6 * n * sizeof *t);

	for (size_t i = 0; i < n; i++) {
		int64_t used = used_ns();

		counting = true;
		open_one(r);
		counting = false;
		t[5 * n + i] = used_ns() - used;
		t[i] = r->last_ns;
		t[n + i] = close_one(r);
	}
	for (size_t i = 0; i < n && r->url[0] != '\0'; i++) {
		open_one(r);
		t[2 * n + i] = publish_one(r);
		t[3 * n + i] = close_one(r);
		open_one(r);
		change_a_file(r);
		t[4 * n + i] = close_one(r);
	}
	static const char *const names[] = {"open", "close", "publish", "close_published", "close_unpublished"};
	for (size_t i = 0; i < (r->url[0] != '\0' ? 5 : 2); i++) {
		putchar(',');
		bench_print(names[i], t + i * n, n);
	}
	putchar(',');
	bench_print("open_cpu", t + 5 * n, n);
	free(t);
}

static enum box_level level_named(const char *name)
{
	for (enum box_level l = BOX_NONE; l <= BOX_NAMESPACE; l++)
		if (strcmp(name, box_level_name(l)) == 0)
			return l;
	bench_die("%s is no level: none, process, namespace", name);
}

int main(int argc, char **argv)
{
	AUTO(boxes) boxes = NULL;
	struct run r = {.n = 0};
	struct why why;

	if (argc != 6)
		bench_die("usage: bench-session LEVEL SEED URL DATA N");
	size_t n = (size_t)bench_number("N", argv[5]);
	AUTO_STR trial = str_printf("%s/.trial", argv[4]);
	r.url = strcmp(argv[3], "-") == 0 ? "" : argv[3];
	if (boxes_start(level_named(argv[1]), true, trial, &boxes, &why) != OK)
		bench_die("%s", why.text);
	/* What is shared with every session: the remote, where it is a folder. */
	const char *const shared[] = {r.url[0] == '/' ? r.url : NULL, NULL};
	const char *const roots[] = {argv[2]};
	r.s = session_new(&(struct session_config){.roots = roots,
	    .n_roots = 1,
	    .state_dir = argv[4],
	    .boxes = level_named(argv[1]) != BOX_NONE ? boxes : NULL,
	    .shared = shared});
	open_one(&r);
	int64_t first = r.last_ns;
	struct tree_cost cost = last_cost;
	close_one(&r);
	printf("{\"method\":\"%s\",\"bytes\":%lld,\"files\":%zu,", r.method, (long long)cost.bytes, cost.files);
	bench_print("first", &first, 1);
	measure(&r, n);
	print_steps(n);
	puts("}");
	session_free(&r.s);
	return 0;
}
