/* bench-mcp FOLDER STATE-DIR SERVERS CALLS PROGRAM ARG...: a session on the folder with so many MCP servers of that
 * command. Prints how long their start took, beside the opening of the session, what each adds to this process, and the
 * time of a call of `echo` through the worker's one place where tools run. */
#include "agent/box/box.h"
#include "agent/mcp/servers.h"
#include "agent/session/session.h"
#include "agent/tools/tool.h"
#include "base/clock.h"
#include "base/mem.h"
#include "bench/measure.h"
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define CALL_ARGS "{\"providerIdentifier\":\"s0\",\"toolName\":\"echo\",\"args\":{\"message\":\"hello\"}}"

static void ignore_news(void *ctx, const char *agent_id, const char *claim_id, const char *json)
{
}

/* KiB of private memory of this process. */
static long private_kib(void)
{
	FILE *f = fopen("/proc/self/smaps_rollup", "r");
	char line[256];
	long kib = 0, n;

	while (f != NULL && fgets(line, sizeof line, f) != NULL)
		if (sscanf(line, "Private_Dirty: %ld", &n) == 1)
			kib = n;
	if (f != NULL)
		fclose(f);
	return kib;
}

static json_t *definitions(int n, char **command)
{
	json_t *list = json_array(), *args = json_array();

	for (char **a = command + 1; *a != NULL; a++)
		json_array_append_new(args, json_string(*a));
	for (int i = 0; i < n; i++) {
		AUTO_STR name = str_printf("s%d", i);
		json_array_append_new(
		    list, json_pack("{s:s, s:s, s:O}", "name", name, "command", command[0], "args", args));
	}
	json_decref(args);
	return list;
}

static void call_echo(struct session *s)
{
	struct tool_call call = {.call_id = "c",
	    .session = s,
	    .hooks = session_tool_hooks(s),
	    .deadline_mono_ms = clock_mono_ms() + 60000,
	    .cancel_fd = eventfd(0, EFD_CLOEXEC)};

	tool_run(&call, "mcp", CALL_ARGS);
	if (call.outcome != TOOL_SUCCESS)
		bench_die("the call failed: %s", call.model_text);
	close(call.cancel_fd);
	tool_call_fini(&call);
}

int main(int argc, char **argv)
{
	struct boxes *boxes = NULL;
	struct session_failure fail = {0};
	struct why why = {""};
	int64_t began, opened_ns;
	json_t *info = NULL;
	long before;
	int n, calls;

	if (argc < 6)
		bench_die("usage: bench-mcp FOLDER STATE-DIR SERVERS CALLS PROGRAM ARG...");
	n = (int)bench_number("servers", argv[3]);
	calls = (int)bench_number("calls", argv[4]);
	AUTO_STR trial = str_printf("%s/.trial", argv[2]);
	if (boxes_start(BOX_NAMESPACE, false, trial, &boxes, &why) != OK)
		bench_die("%s", why.text);
	const char *const roots[] = {argv[1]};
	struct session *s =
	    session_new(&(struct session_config){.roots = roots, .n_roots = 1, .state_dir = argv[2], .boxes = boxes});
	if (session_open(s,
		&(struct session_open){.agent_id = "bench", .repo_url = "", .starting_ref = "", .branch = ""}, -1,
		clock_mono_ms() + 60000, &info, &fail) != OK)
		bench_die("%s", fail.why.text);
	AUTO_JSON list = definitions(n, argv + 5);
	before = private_kib();
	began = bench_now_ns();
	struct mcp_servers *m = mcp_servers_new(s, ignore_news, NULL);
	session_attach(s, GUEST_MCP, m, mcp_servers_end);
	mcp_servers_open(m, &(struct mcp_servers_wish){.definitions = list}, clock_mono_ms() + 15000, -1, info);
	opened_ns = bench_now_ns() - began;
	int64_t *times = mem_alloc((size_t)calls * sizeof *times);
	for (int i = -20; i < calls; i++) {
		began = bench_now_ns();
		call_echo(s);
		if (i >= 0)
			times[i] = bench_now_ns() - began;
	}
	printf("{\"open_ms\":%.3f,\"kib_each\":%.1f,", (double)opened_ns / 1e6,
	    (double)(private_kib() - before) / (n > 0 ? n : 1));
	bench_print("call", times, (size_t)calls);
	printf("}\n");
	session_close(s, NULL);
	session_free(&s);
	boxes_free(&boxes);
	return 0;
}
