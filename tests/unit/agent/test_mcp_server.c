/* The keeper of a stdio server: pings of a silent one. What servers offer and how they die is in tests/e2e. */
#include "workbench.h"
#include "agent/mcp/server.h"

#define SERVER                                                                                                         \
	"echo start >>'%s/starts'\n"                                                                                   \
	"while read -r line; do\n"                                                                                     \
	"id=$(printf %%s \"$line\" | sed -n 's/.*\"id\":\\([0-9]*\\).*/\\1/p')\n"                                      \
	"case \"$line\" in\n"                                                                                          \
	"*'\"initialize\"'*) echo '{\"jsonrpc\":\"2.0\",\"id\":'$id',\"result\":{\"protocolVersion\":\"2025-11-25\","  \
	"\"capabilities\":{\"tools\":{}},\"serverInfo\":{\"name\":\"x\",\"version\":\"1\"}}}' ;;\n"                    \
	"*'\"tools/list\"'*) echo '{\"jsonrpc\":\"2.0\",\"id\":'$id',\"result\":{\"tools\":[]}}' ;;\n"                 \
	"*'\"ping\"'*) echo ping >>'%s/pings'; [ -e '%s/deaf' ] || "                                                   \
	"echo '{\"jsonrpc\":\"2.0\",\"id\":'$id',\"result\":{}}' ;;\n"                                                 \
	"esac\ndone\n"

static void nothing(void *ctx)
{
}

static size_t lines_of(struct bench *b, const char *name)
{
	AUTO_STR path = str_printf("%s/%s", b->dir, name);
	AUTO_STR text = NULL;
	size_t len, n = 0;

	if (text_read_file(path, 100000, &text, &len) != OK)
		return 0;
	for (size_t i = 0; i < len; i++)
		n += text[i] == '\n';
	return n;
}

static void until_lines(struct bench *b, const char *name, size_t n)
{
	int64_t end = clock_mono_ms() + 30000;

	while (lines_of(b, name) < n) {
		if (clock_mono_ms() > end)
			fail_msg("%s has %zu lines, not %zu", name, lines_of(b, name), n);
		usleep(2000); /* interval of polling */
	}
}

static void test_a_silent_server_is_pinged_and_a_deaf_one_started_anew(void **state)
{
	struct bench *b = *state;
	const struct mcp_times times = {30000, 30000, 30000, 30000, 50};
	AUTO_STR script = str_printf(SERVER, b->dir, b->dir, b->dir);
	AUTO_JSON entry = json_pack("{s:s, s:s, s:[s, s]}", "name", "x", "command", "sh", "args", "-c", script);
	const struct mcp_scene scene = {.workspace = b->root};
	struct mcp_definition d;
	struct mcp_server *s;

	mcp_definition_read(entry, NULL, false, &scene, &d);
	assert_null(d.fault);
	s = mcp_server_new(&d, &(struct mcp_server_config){
				   .session = b->session, .changed = nothing, .ping_after_ms = 20, .times = &times});
	/* On a busy machine it may be too late with an answer, and be started anew for that: so nothing is said of how
	 * often it was. */
	until_lines(b, "pings", 3);
	SH(b, "touch deaf; : >starts");
	until_lines(b, "starts", 1);
	mcp_server_stop(s);
	mcp_server_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test_setup_teardown(
	    test_a_silent_server_is_pinged_and_a_deaf_one_started_anew, setup_bench, teardown_bench)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
