#include "agent/worker/options.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAX_WORDS 64

static void clean_environment(void)
{
	static const char *const names[] = {"CURSOR_WORKER_POOL_NAME", "CURSOR_WORKER_NAME", "CURSOR_AGENT_WORKER_ID",
	    "CURSOR_API_ENDPOINT", "BULLPEN_URL", "BULLPEN_ALLOW_HTTP", "CURSOR_WORKER_ISOLATION",
	    "CURSOR_WORKER_SESSION_MEMORY", "CURSOR_WORKER_SESSION_CPUS", "CURSOR_WORKER_SESSION_PIDS",
	    "CURSOR_WORKER_SESSION_HOME", "CURSOR_WORKER_SESSION_SHARE"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	setenv("CURSOR_API_KEY", "env-key", 1);
	setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
}

/* Splits at blanks; `''` is an empty word. */
static int parse(const char *line, struct worker_options *o, struct why *why)
{
	char *argv[MAX_WORDS + 1] = {"worker"};
	AUTO_STR copy = str_dup(line);
	int argc = 1, rc;

	for (char *p = copy, *save; (p = strtok_r(p, " ", &save)) != NULL && argc < MAX_WORDS; p = NULL)
		argv[argc++] = strcmp(p, "''") == 0 ? "" : p;
	argv[argc] = NULL;
	*why = (struct why){""};
	rc = worker_options_parse(argc, argv, o, why);
	return rc;
}

static void accepted_lines(void **state)
{
	static const struct {
		const char *line, *pool, *key, *endpoint;
	} cases[] = {
	    {"start --pool", "default", "env-key", "http://127.0.0.1:8787"},
	    {"--pool start", "default", "env-key", "http://127.0.0.1:8787"},
	    {"start --pool ci", "ci", "env-key", "http://127.0.0.1:8787"},
	    {"--pool ci start", "ci", "env-key", "http://127.0.0.1:8787"},
	    {"--pool=start start", "start", "env-key", "http://127.0.0.1:8787"},
	    {"start --pool=ci --verbose", "ci", "env-key", "http://127.0.0.1:8787"},
	    {"start --pool --pool-name ci", "ci", "env-key", "http://127.0.0.1:8787"},
	    {"start --pool ci --pool-name ci", "ci", "env-key", "http://127.0.0.1:8787"},
	    {"start --single-use", "default", "env-key", "http://127.0.0.1:8787"},
	    {"start --single-use --pool-name ci", "ci", "env-key", "http://127.0.0.1:8787"},
	    {"start --pool a --pool b", "b", "env-key", "http://127.0.0.1:8787"},
	    {"start --pool a --pool", "a", "env-key", "http://127.0.0.1:8787"},
	    {"start --pool --api-key k", "default", "k", "http://127.0.0.1:8787"},
	    {"start --pool --api-key=a --api-key b", "default", "b", "http://127.0.0.1:8787"},
	    {"start --pool -e https://cp.acme.io/", "default", "env-key", "https://cp.acme.io"},
	    {"start --pool --endpoint=https://cp.acme.io:8443/base", "default", "env-key",
		"https://cp.acme.io:8443/base"},
	    {"start --pool -e http://localhost:1", "default", "env-key", "http://localhost:1"},
	    {"start --pool -e http://[::1]:80", "default", "env-key", "http://[::1]:80"},
	};

	clean_environment();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct worker_options o;
		struct why why;

		if (parse(cases[i].line, &o, &why) != OK)
			fail_msg("\"%s\": %s", cases[i].line, why.text);
		assert_int_equal(o.command, WORKER_START);
		assert_string_equal(o.pool, cases[i].pool);
		assert_string_equal(o.api_key, cases[i].key);
		assert_string_equal(o.endpoint, cases[i].endpoint);
		assert_int_equal(o.n_dirs, 1);
		worker_options_fini(&o);
	}
}

static void isolation(void **state)
{
	struct worker_options o;
	struct why why;

	clean_environment();
	assert_int_equal(parse("start --pool", &o, &why), OK);
	assert_true(o.isolation == BOX_NAMESPACE && !o.isolation_named && !o.home_named && !o.shared_home);
	assert_true(o.session_memory_bytes == 0 && o.session_cpu_milli == 0 && o.session_pids == 0 && o.n_shared == 0);
	worker_options_fini(&o);
	assert_int_equal(
	    parse("start --pool --isolation=process --session-memory 2g --session-cpus 1.5 --session-pids 300 "
		  "--session-home shared --session-share /usr --session-share=/etc",
		&o, &why),
	    OK);
	assert_true(o.isolation == BOX_PROCESS && o.isolation_named && o.home_named && o.shared_home);
	assert_int_equal(o.session_memory_bytes, INT64_C(2) << 30);
	assert_int_equal(o.session_cpu_milli, 1500);
	assert_int_equal(o.session_pids, 300);
	assert_int_equal(o.n_shared, 2);
	assert_string_equal(o.shared[1], "/etc");
	worker_options_fini(&o);
	/* The environment is second. */
	setenv("CURSOR_WORKER_ISOLATION", "none", 1);
	setenv("CURSOR_WORKER_SESSION_MEMORY", "512M", 1);
	setenv("CURSOR_WORKER_SESSION_CPUS", "0.25", 1);
	setenv("CURSOR_WORKER_SESSION_PIDS", "64", 1);
	setenv("CURSOR_WORKER_SESSION_HOME", "overlay", 1);
	setenv("CURSOR_WORKER_SESSION_SHARE", "/usr:/etc", 1);
	assert_int_equal(parse("start --pool --session-pids 65", &o, &why), OK);
	assert_true(o.isolation == BOX_NONE && o.home_named && !o.shared_home && o.n_shared == 2);
	assert_int_equal(o.session_memory_bytes, 512 << 20);
	assert_int_equal(o.session_cpu_milli, 250);
	assert_int_equal(o.session_pids, 65);
	worker_options_fini(&o);
	clean_environment();
}

static void refused_lines(void **state)
{
	static const struct {
		const char *line, *sentence;
	} cases[] = {
	    {"start", "personal workers are not built yet: start a pool worker with --pool"},
	    {"start --pool --frobnicate", "unknown option --frobnicate"},
	    {"start --pool --label a=b", "unknown option --label"},
	    {"start --pool --mint=1", "unknown option --mint"},
	    {"start --pool -x", "unknown option -x"},
	    {"start --pool --name", "--name needs a value"},
	    {"start --pool --api-key --verbose", "--api-key needs a value"},
	    {"start --pool --verbose=yes", "takes no value"},
	    {"start --pool=", "empty value"},
	    {"start --pool --name ''", "empty value"},
	    {"start --pool-name ci", "--pool-name needs --pool"},
	    {"start --pool a --pool-name b", "differ"},
	    {"start --pool .hidden", "not valid"},
	    {"start --pool a/b", "not valid"},
	    {"start --pool a23456789a23456789a23456789a23456789a23456789a23456789a23456789x", "not valid"},
	    {"start --pool --worker-id a/b", "worker id"},
	    {"start --pool --worker-dir /nonexistent/dir", "/nonexistent/dir"},
	    {"start --pool --worker-dir /etc/passwd", "/etc/passwd"},
	    {"start --pool ci stray", "unexpected argument stray"},
	    {"start --pool ci -- stray", "unexpected argument stray"},
	    {"start --pool ci debug", "unexpected argument debug"},
	    {"begin --pool", "unknown command begin"},
	    {"start --pool --json", "--json belongs to agent worker debug"},
	    {"start --pool --isolation=jail", "namespace, process or none"},
	    {"start --pool --session-memory 15M", "at least 16M"},
	    {"start --pool --session-memory 99999999T", "session memory"},
	    {"start --pool --session-memory M", "session memory"},
	    {"start --pool --session-cpus 1.2345", "session cpus"},
	    {"start --pool --session-cpus 1.", "session cpus"},
	    {"start --pool --session-cpus .005", "session cpus"},
	    {"start --pool --session-pids 1", "session pids"},
	    {"start --pool --session-home mine", "overlay or shared"},
	    {"start --pool --session-share /nonexistent/dir", "/nonexistent/dir"},
	    {"start --pool -e cp.acme.io", "absolute"},
	    {"start --pool -e ftp://cp.acme.io", "absolute"},
	    {"start --pool -e http://cp.acme.io", "https://"},
	    {"start --pool -e http://127.evil.io", "https://"},
	    {"start --pool -e https://u:p@cp.acme.io", "user name"},
	    {"start --pool -e https://cp.acme.io?x=1", "query"},
	    {"start --pool -e https://cp.acme.io#x", "query or fragment"},
	    {"start --pool -e https://", "not a valid URL"},
	    {"start --pool -e https://cp:0", "not a valid URL"},
	    {"start --pool -e https://cp:99999", "not a valid URL"},
	    {"start --pool -e https://[::1", "not a valid URL"},
	};

	clean_environment();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct worker_options o;
		struct why why;

		assert_int_equal(parse(cases[i].line, &o, &why), ERR_INVALID);
		if (strstr(why.text, cases[i].sentence) == NULL)
			fail_msg("\"%s\": \"%s\" lacks \"%s\"", cases[i].line, why.text, cases[i].sentence);
		worker_options_fini(&o);
	}
}

static void help_and_nothing(void **state)
{
	static const struct {
		const char *line;
		enum worker_command command;
	} cases[] = {{"help", WORKER_HELP}, {"help start", WORKER_HELP}, {"-h", WORKER_HELP},
	    {"start --help", WORKER_HELP}, {"", WORKER_NONE}, {"--pool ci", WORKER_NONE}};

	clean_environment();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct worker_options o;
		struct why why;

		assert_int_equal(parse(cases[i].line, &o, &why), OK);
		assert_int_equal(o.command, cases[i].command);
		worker_options_fini(&o);
	}
}

static void environment_is_second(void **state)
{
	struct worker_options o;
	struct why why;

	clean_environment();
	setenv("CURSOR_WORKER_POOL_NAME", "envpool", 1);
	setenv("CURSOR_WORKER_NAME", "  box 1 ", 1);
	setenv("CURSOR_AGENT_WORKER_ID", "ctrl-1", 1);
	setenv("BULLPEN_URL", "https://second.io", 1);
	assert_int_equal(parse("start --pool", &o, &why), OK);
	assert_string_equal(o.pool, "envpool");
	assert_string_equal(o.name, "box 1");
	assert_false(o.named);
	assert_string_equal(o.worker_id, "ctrl-1");
	assert_string_equal(o.endpoint, "https://second.io");
	worker_options_fini(&o);

	setenv("CURSOR_API_ENDPOINT", "https://first.io", 1);
	assert_int_equal(parse("start --pool x --name flag --worker-id w", &o, &why), OK);
	assert_string_equal(o.pool, "x");
	assert_string_equal(o.name, "flag");
	assert_true(o.named);
	assert_string_equal(o.worker_id, "w");
	assert_string_equal(o.endpoint, "https://first.io");
	worker_options_fini(&o);

	/* Empty is not given. */
	setenv("CURSOR_WORKER_NAME", "", 1);
	setenv("CURSOR_API_ENDPOINT", "", 1);
	assert_int_equal(parse("start --pool", &o, &why), OK);
	assert_null(o.name);
	assert_string_equal(o.endpoint, "https://second.io");
	worker_options_fini(&o);

	setenv("BULLPEN_URL", "http://inner", 1);
	assert_int_equal(parse("start --pool", &o, &why), ERR_INVALID);
	worker_options_fini(&o);
	setenv("BULLPEN_ALLOW_HTTP", "1", 1);
	assert_int_equal(parse("start --pool", &o, &why), OK);
	worker_options_fini(&o);

	unsetenv("CURSOR_API_KEY");
	assert_int_equal(parse("start --pool", &o, &why), ERR_UNAUTHORIZED);
	worker_options_fini(&o);
}

static void config_file_is_third(void **state)
{
	char dir[] = "/tmp/options-XXXXXX";
	struct worker_options o;
	struct why why;
	FILE *f;

	clean_environment();
	assert_non_null(mkdtemp(dir));
	AUTO_STR sub = str_printf("%s/bullpen", dir);
	AUTO_STR path = str_printf("%s/agent.toml", sub);

	assert_int_equal(mkdir(sub, 0700), 0);
	f = fopen(path, "w");
	fputs("endpoint = \"https://config.io\"\n", f);
	fclose(f);
	setenv("XDG_CONFIG_HOME", dir, 1);
	assert_int_equal(parse("start --pool", &o, &why), OK);
	assert_string_equal(o.endpoint, "https://config.io");
	worker_options_fini(&o);
	f = fopen(path, "w");
	fputs("endpoint = 3\n", f);
	fclose(f);
	assert_int_equal(parse("start --pool", &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "agent.toml"));
	worker_options_fini(&o);
	unlink(path);
	rmdir(sub);
	rmdir(dir);
}

static void directories(void **state)
{
	struct worker_options o;
	struct why why;
	struct strbuf line = STRBUF(4096);

	clean_environment();
	assert_int_equal(parse("start --pool --worker-dir / --worker-dir /tmp --worker-dir /tmp/", &o, &why), OK);
	assert_int_equal(o.n_dirs, 2);
	assert_string_equal(o.dirs[0], "/");
	assert_string_equal(o.dirs[1], "/tmp");
	worker_options_fini(&o);
	strbuf_adds(&line, "start --pool");
	for (int i = 0; i < 21; i++)
		strbuf_adds(&line, " --worker-dir /");
	assert_int_equal(parse(line.data, &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "at most 20"));
	strbuf_fini(&line);
	worker_options_fini(&o);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(accepted_lines),
	    cmocka_unit_test(isolation),
	    cmocka_unit_test(refused_lines),
	    cmocka_unit_test(help_and_nothing),
	    cmocka_unit_test(environment_is_second),
	    cmocka_unit_test(config_file_is_third),
	    cmocka_unit_test(directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
