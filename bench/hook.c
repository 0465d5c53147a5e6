/* What a hook costs (agent/hooks/hooks.h):
 *   bench-hook run LEVEL DIR DATA N   opens a session on DIR, a plain folder with .cursor/hooks.json, and runs its
 * hooks of preToolUse N times. LEVEL: none, process or namespace. bench-hook spawn N CMD…           the floor: N times
 * CMD started and waited for, with nothing to read or to say to bench-hook answer                 is a hook: reads its
 * input and allows. */
#include "agent/box/box.h"
#include "agent/hooks/hooks.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/measure.h"
#include <fcntl.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LIMIT_MS 60000

static int answer(void)
{
	static const char text[] = "{\"permission\":\"allow\"}\n";
	char buf[65536];

	while (read(0, buf, sizeof buf) > 0)
		;
	return write(1, text, sizeof text - 1) == (ssize_t)sizeof text - 1 ? 0 : 1;
}

static void spawn(size_t n, char **argv)
{
	posix_spawn_file_actions_t fa;
	int64_t *t = mem_alloc(n * sizeof *t);

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&fa, 1, "/dev/null", O_WRONLY, 0);
	for (size_t i = 0; i < n; i++) {
		int64_t from = bench_now_ns();
		pid_t pid;

		if (posix_spawnp(&pid, argv[0], &fa, NULL, argv, environ) != 0 || waitpid(pid, NULL, 0) != pid)
			bench_die("cannot run %s", argv[0]);
		t[i] = bench_now_ns() - from;
	}
	posix_spawn_file_actions_destroy(&fa);
	putchar('{');
	bench_print("spawn", t, n);
	puts("}");
	free(t);
}

static enum box_level level_named(const char *name)
{
	for (enum box_level l = BOX_NONE; l <= BOX_NAMESPACE; l++)
		if (strcmp(box_level_name(l), name) == 0)
			return l;
	bench_die("no such level: %s", name);
}

static json_t *payload(void)
{
	return json_pack("{s:s, s:{s:s}, s:s, s:s, s:s}", "tool_name", "Shell", "tool_input", "command", "make test",
	    "tool_use_id", "call_1", "cwd", "/", "agent_message", "Testing.");
}

static void run_hooks(struct session *s, size_t n)
{
	int64_t *t = mem_alloc(n * sizeof *t);
	const struct hook_run run = {0};

	for (size_t i = 0; i < n; i++) {
		struct hook_verdict v;
		int64_t from = bench_now_ns();

		hooks_run(hooks_of(s),
		    &(struct hook_request){
			.event = HOOK_PRE_TOOL_USE, .subject = "Shell", .payload = payload(), .run = &run},
		    &v);
		t[i] = bench_now_ns() - from;
		if (v.ran != 1 || v.refuses || v.faults != NULL)
			bench_die("the hook did not run as it should: %s", v.model_text != NULL ? v.model_text : "");
		hook_verdict_fini(&v);
	}
	putchar('{');
	bench_print("hook", t, n);
	puts("}");
	free(t);
}

static void measure(const char *level, const char *dir, const char *data, size_t n)
{
	const char *roots[] = {dir};
	struct boxes *boxes = NULL;
	struct why why = {""};
	struct session *s;
	AUTO_FINI(session_failure) fail = {0};
	AUTO_JSON info = NULL;
	const struct hook_settings set = {.project = true};
	const struct session_open want = {
	    .agent_id = "bc-bench", .claim_id = "c", .repo_url = "", .starting_ref = "", .branch = ""};

	if (boxes_start(level_named(level), true, NULL, &boxes, &why) != OK)
		bench_die("%s", why.text);
	s = session_new(&(struct session_config){.roots = roots, .n_roots = 1, .state_dir = data, .boxes = boxes});
	if (session_open(s, &want, -1, clock_mono_ms() + LIMIT_MS, &info, &fail) != OK)
		bench_die("%s", fail.why.text);
	if (hooks_open(&set, s, &(struct hook_run){0}, info, &why) != OK)
		bench_die("%s", why.text);
	run_hooks(s, n);
	session_close(s, NULL);
	session_free(&s);
	boxes_free(&boxes);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "answer") == 0)
		return answer();
	if (argc >= 4 && strcmp(argv[1], "spawn") == 0) {
		spawn((size_t)strtoul(argv[2], NULL, 10), argv + 3);
		return 0;
	}
	if (argc != 6)
		bench_die("usage: bench-hook run LEVEL DIR DATA N | spawn N CMD… | answer");
	measure(argv[2], argv[3], argv[4], (size_t)strtoul(argv[5], NULL, 10));
	return 0;
}
