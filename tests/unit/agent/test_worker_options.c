#include "agent/worker/options.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_WORDS 400

static void clean_environment(void)
{
	static const char *const names[] = {"CURSOR_WORKER_POOL_NAME", "CURSOR_WORKER_NAME", "CURSOR_AGENT_WORKER_ID",
	    "CURSOR_API_ENDPOINT", "BULLPEN_URL", "BULLPEN_ALLOW_HTTP", "CURSOR_WORKER_ISOLATION",
	    "CURSOR_WORKER_SESSION_MEMORY", "CURSOR_WORKER_SESSION_CPUS", "CURSOR_WORKER_SESSION_PIDS",
	    "CURSOR_WORKER_SESSION_HOME", "CURSOR_WORKER_SESSION_SHARE", "CURSOR_WORKER_LABELS_FILE",
	    "CURSOR_WORKER_IDLE_RELEASE_TIMEOUT"};

	for (size_t i = 0; i < ARRAY_LEN(names); i++)
		unsetenv(names[i]);
	setenv("CURSOR_API_KEY", "env-key", 1);
	setenv("XDG_CONFIG_HOME", "/nonexistent", 1);
}

static int run_shell(const char *command)
{
	pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(127);
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid ? status : -1;
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
	    /* Every option in front of the command, too. */
	    {"--verbose --debug --wait --pool ci --name n --label a=b --api-key k start", "ci", "k",
		"http://127.0.0.1:8787"},
	    {"--idle-release-timeout 5 --management-addr :80 --worker-id w -e http://[::1]:80 --pool=ci start", "ci",
		"env-key", "http://[::1]:80"},
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
	    {"start --pool --frobnicate", "unknown option --frobnicate"},
	    {"start --pool --mint=1", "unknown option --mint"},
	    {"start --frobnicate --label a --labels-file x", "unknown option --frobnicate"}, /* V1 before V2 */
	    {"start --pool --label a=b --labels-file x", "--label and --labels-file exclude each other"},
	    {"start --label a=b --labels-file x --pool-name y", "--label and --labels-file exclude"}, /* V2 before V3 */
	    {"start --pool-name y --worker-dir /nonexistent", "--pool-name needs --pool"}, /* V3 before V5 */
	    {"start --worker-dir /nonexistent --label a", "/nonexistent is not a directory"}, /* V5 before V6 */
	    {"start --label repo=a/b --label a", "must be KEY=VALUE"}, /* V6 before V7 */
	    {"start --pool --label os", "'os' must be KEY=VALUE, such as os=linux"},
	    {"start --pool --label =linux", "empty key"},
	    {"start --pool --label os=", "empty value"},
	    {"start --pool --label -os=linux", "--label needs a value"},
	    {"start --pool --label=-os=linux", "the label key -os is not valid"},
	    {"start --pool --label o$s=linux", "the label key o$s is not valid"},
	    {"start --pool --label=os=\x01", "control characters"},
	    {"start --pool --label=os=\xff", "not UTF-8"},
	    {"start --pool --label pool=ci", "name the pool with --pool ci"},
	    {"start --pool --label repo=acme/web", "derived from the git remote"},
	    {"start --label pool=a --labels-file=x", "exclude"},
	    {"start --label pool=a --idle-release-timeout x", "reserved"}, /* V7 before V9 */
	    {"start --pool --labels-file /nonexistent/labels.json", "/nonexistent/labels.json cannot be read"},
	    {"start --pool --labels-file /nonexistent/l --idle-release-timeout x", "cannot be read"}, /* V8 before V9 */
	    {"start --pool --idle-release-timeout 1.5", "whole number of seconds"},
	    {"start --pool --idle-release-timeout=-1", "whole number of seconds"},
	    {"start --pool --idle-release-timeout=+1", "whole number of seconds"},
	    {"start --pool --idle-release-timeout 10s", "whole number of seconds"},
	    {"start --pool --idle-release-timeout 31536001", "31536000"},
	    {"start --pool --idle-release-timeout x --management-addr 8080", "seconds"}, /* V9 before V10 */
	    {"start --pool --management-addr 8080", "'8080' is not valid"},
	    {"start --pool --management-addr localhost", "must be :PORT, HOST:PORT or [IPV6]:PORT"},
	    {"start --pool --management-addr :0", "port from 1 to 65535"},
	    {"start --pool --management-addr :65536", "not valid"},
	    {"start --pool --management-addr :80x", "not valid"},
	    {"start --pool --management-addr ::1:80", "not valid"},
	    {"start --pool --management-addr [::1]", "not valid"},
	    {"start --pool --management-addr http://x:80", "not valid"},
	    {"start --management-addr x --clone-git-repos", "management address"}, /* V10 before V11 */
	    {"start --clone-git-repos", "--clone-git-repos needs --pool"},
	    {"start --clone-git-repos --pool", "needs a named pool"},
	    {"start --clone-git-repos --pool any --name box", "does not go with --name"},
	    {"start --clone-git-repos --mint-github-token", "--clone-git-repos needs --pool"}, /* V11 before V12 */
	    {"start --mint-github-token", "--mint-github-token needs --pool"},
	    {"start --sync-dashboard-secrets", "--sync-dashboard-secrets needs --pool"},
	    {"start --on-session-start true", "--on-session-start needs --pool"},
	    {"start --on-session-end=true", "--on-session-end needs --pool"},
	    {"start --pool --mint-github-token", "--mint-github-token is not built in"},
	    {"start --pool --on-session-start=", "--on-session-start has an empty value"},
	    {"start --pool --on-session-end=", "--on-session-end has an empty value"},
	    {"start --identity-socket", "--identity-socket is not built in"},
	    {"start --computer-use", "--computer-use is not built in"},
	    {"start --display :0", "--display is not built in"},
	    {"start --share-desktop", "--share-desktop is not built in"},
	    {"start --share-desktop view", "--share-desktop is not built in"},
	    {"start --share-desktop=all", "view or view_and_control"},
	    {"start --share-desktop all", "unexpected argument all"},
	    {"--share-desktop start", "--share-desktop is not built in"},
	    {"start --pool --api-key a --auth-token b", "exclude each other"},
	    {"start --auth-token a --auth-token-file b", "exclude each other"},
	    {"start --debug=yes", "takes no value"},
	    {"controller --pool ci", "agent worker controller is not built in"},
	    {"start --pool --pool-name=", "empty value"},
	    {"start --pool ci --pool-name=c/i", "differ"},
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

static char *labels_text(const struct labels *l)
{
	struct strbuf b = STRBUF(65536);

	for (size_t i = 0; i < l->n; i++)
		strbuf_addf(&b, "%s%s=%s", i > 0 ? " " : "", l->v[i].key, l->v[i].value);
	return strbuf_take(&b);
}

static void labels_of_flags(void **state)
{
	static const struct {
		const char *line, *labels;
	} cases[] = {
	    {"start --pool --pool-name ci --label os=linux", "os=linux"},
	    {"--pool ci --label os=linux start", "os=linux"},
	    {"--label os=linux start --pool ci", "os=linux"},
	    {"start --label tier=gold --label tools=podman --label tools=cuda", "tier=gold tools=podman tools=cuda"},
	    {"start --label a=b --label a=b", "a=b"},
	    {"start --label a=b=c --label=d=e", "a=b=c d=e"},
	    {"start --label \ta\t=\tb\t", "a=b"},
	    {"start --label a/b.c-d_e=\xc3\xa4", "a/b.c-d_e=\xc3\xa4"},
	    {"start", ""},
	};

	clean_environment();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct worker_options o;
		struct why why;
		AUTO_STR text = NULL;

		if (parse(cases[i].line, &o, &why) != OK)
			fail_msg("\"%s\": %s", cases[i].line, why.text);
		text = labels_text(&o.labels);
		assert_string_equal(text, cases[i].labels);
		worker_options_fini(&o);
	}
}

static char *write_file(const char *dir, const char *name, const char *text)
{
	char *path = str_printf("%s/%s", dir, name);
	FILE *f = fopen(path, "w");

	assert_non_null(f);
	fputs(text, f);
	fclose(f);
	return path;
}

/* name, text, the labels; or NULL and the sentence. */
static void labels_of_files(void **state)
{
	static const struct {
		const char *name, *text, *labels, *sentence;
	} cases[] = {
	    {"a.json", "{ \"tier\": \"gold\", \"tools\": [\"podman\", \"cuda\"] }", "tier=gold tools=podman tools=cuda",
		""},
	    {"a.JSON", "[{\"key\":\"tier\",\"value\":\"gold\"},{\"key\":\"tools\",\"value\":\"podman\"}]",
		"tier=gold tools=podman", ""},
	    {"a.toml", "# of the machine\ntier = \"gold\"\ntools = [\"podman\",\n  'cuda']\n",
		"tier=gold tools=podman tools=cuda", ""},
	    {"a.TOML", "\"a/b\" = 'c'\n", "a/b=c", ""},
	    {"json", "{\"a\":\"b\"}", "a=b", ""},
	    {"toml", "a = \"b\"\n", "a=b", ""},
	    {"empty.json", "{}", "", ""},
	    {"empty.toml", "", "", ""},
	    {"bad.json", "{", NULL, "bad.json: it is not JSON"},
	    {"bad.toml", "a = ", NULL, "bad.toml: it is not TOML"},
	    {"bad", "a = ", NULL, "neither JSON"},
	    {"toml.json", "a = \"b\"\n", NULL, "it is not JSON"},
	    {"json.toml", "{\"a\":\"b\"}", NULL, "it is not TOML"},
	    {"n.json", "{\"a\":1}", NULL, "n.json: the value of 'a' must be a string or an array of strings"},
	    {"n.toml", "a = 1\n", NULL, "must be a string or an array of strings"},
	    {"t.json", "{\"a\":true}", NULL, "must be a string"},
	    {"null.json", "{\"a\":null}", NULL, "must be a string"},
	    {"o.json", "{\"a\":{\"b\":\"c\"}}", NULL, "must be a string"},
	    {"o.toml", "[a]\nb = \"c\"\n", NULL, "must be a string"},
	    {"date.toml", "a = 2026-01-01\n", NULL, "not a date"},
	    {"dates.toml", "a = [\"x\", \"y\"]\nb = [07:32:00]\n", NULL, "value of 'b'"},
	    {"e.json", "{\"a\":[]}", NULL, "empty array"},
	    {"e.toml", "a = []\n", NULL, "empty array"},
	    {"i.json", "{\"a\":[\"b\",1]}", NULL, "item 1 of 'a' is not a string"},
	    {"l.json", "[1]", NULL, "item 0 must be an object"},
	    {"l2.json", "[{\"key\":\"a\"}]", NULL, "item 0 must be an object"},
	    {"l3.json", "[{\"key\":\"a\",\"value\":\"b\",\"more\":1}]", NULL, "item 0 must be an object"},
	    {"s.json", "\"a\"", NULL, "an object or a list of objects"},
	    {"twice.json", "{\"a\":\"b\",\"a\":\"c\"}", NULL, "twice.json"},
	    {"nul.json", "{\"a\":\"b\\u0000c\"}", NULL, "nul.json"},
	    {"v.json", "{\"a\":\"\"}", NULL, "empty value"},
	    {"k.json", "{\"\":\"a\"}", NULL, "empty key"},
	    {"repo.json", "{\"repo\":\"acme/web\"}", NULL, "'repo', which is reserved"},
	    {"pool.toml", "pool = \"ci\"\n", NULL, "name the pool with --pool ci"},
	};
	char dir[] = "/tmp/labels-XXXXXX";

	clean_environment();
	assert_non_null(mkdtemp(dir));
	for (size_t i = 0; i < 2 * ARRAY_LEN(cases); i++) {
		const size_t n = i / 2;
		AUTO_STR path = write_file(dir, cases[n].name, cases[n].text);
		AUTO_STR line = str_printf("start --labels-file %s", path);
		AUTO_STR text = NULL;
		struct worker_options o;
		struct why why;
		int rc;

		/* By the flag, and by the environment. */
		if (i % 2 == 1)
			setenv("CURSOR_WORKER_LABELS_FILE", path, 1);
		rc = parse(i % 2 == 1 ? "start" : line, &o, &why);
		unsetenv("CURSOR_WORKER_LABELS_FILE");
		text = labels_text(&o.labels);
		if (cases[n].labels != NULL ? rc != OK || strcmp(text, cases[n].labels) != 0
					    : rc != ERR_INVALID || strstr(why.text, cases[n].sentence) == NULL)
			fail_msg("%s: %d \"%s\" %s", cases[n].name, rc, text, why.text);
		worker_options_fini(&o);
		unlink(path);
	}
	rmdir(dir);
}

static void labels_have_limits(void **state)
{
	struct strbuf line = STRBUF(65536);
	struct worker_options o;
	struct why why;
	char value[LABEL_VALUE_MAX + 2];

	clean_environment();
	strbuf_adds(&line, "start");
	for (int i = 0; i < LABELS_MAX; i++)
		strbuf_addf(&line, " --label k%d=v", i);
	assert_int_equal(parse(line.data, &o, &why), OK);
	assert_int_equal(o.labels.n, LABELS_MAX);
	worker_options_fini(&o);
	strbuf_adds(&line, " --label one=more");
	assert_int_equal(parse(line.data, &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "at most 64 labels"));
	worker_options_fini(&o);
	strbuf_fini(&line);
	memset(value, 'v', sizeof value);
	value[LABEL_VALUE_MAX] = '\0';
	AUTO_STR fits = str_printf("start --label k=%s", value);
	AUTO_STR longer = str_printf("start --label k=%sv", value);

	assert_int_equal(parse(fits, &o, &why), OK);
	worker_options_fini(&o);
	assert_int_equal(parse(longer, &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "more than 256 bytes"));
	worker_options_fini(&o);
}

static void labels_from_flag_and_environment(void **state)
{
	struct worker_options o;
	struct why why;
	char dir[] = "/tmp/labels-XXXXXX";

	clean_environment();
	assert_non_null(mkdtemp(dir));
	AUTO_STR path = write_file(dir, "l.json", "{\"a\":\"b\"}");
	AUTO_STR line = str_printf("start --labels-file %s", path);

	setenv("CURSOR_WORKER_LABELS_FILE", "/nonexistent", 1);
	assert_int_equal(parse("start --label a=b", &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "--label and CURSOR_WORKER_LABELS_FILE exclude each other"));
	worker_options_fini(&o);
	/* The flag beats it. */
	assert_int_equal(parse(line, &o, &why), OK);
	assert_int_equal(o.labels.n, 1);
	worker_options_fini(&o);
	unsetenv("CURSOR_WORKER_LABELS_FILE");
	unlink(path);
	rmdir(dir);
}

static void idle_release(void **state)
{
	static const struct {
		const char *line, *env;
		int64_t seconds;
		bool given;
	} cases[] = {{"start --pool", NULL, 3600, false}, {"start", NULL, 0, false}, {"start --pool", "60", 60, true},
	    {"start", "60", 60, true}, {"start --pool --idle-release-timeout 0", "60", 0, true},
	    {"start --pool --idle-release-timeout 600", NULL, 600, true}, {"start --pool", "", 3600, false},
	    {"start --idle-release-timeout=31536000", NULL, 31536000, true}};

	clean_environment();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct worker_options o;
		struct why why;

		if (cases[i].env != NULL)
			setenv("CURSOR_WORKER_IDLE_RELEASE_TIMEOUT", cases[i].env, 1);
		assert_int_equal(parse(cases[i].line, &o, &why), OK);
		assert_int_equal(o.idle_release_s, cases[i].seconds);
		assert_int_equal(o.idle_release_given, cases[i].given);
		worker_options_fini(&o);
		unsetenv("CURSOR_WORKER_IDLE_RELEASE_TIMEOUT");
	}
	setenv("CURSOR_WORKER_IDLE_RELEASE_TIMEOUT", "1h", 1);
	struct worker_options o;
	struct why why;

	assert_int_equal(parse("start", &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "CURSOR_WORKER_IDLE_RELEASE_TIMEOUT must be a whole number of seconds"));
	worker_options_fini(&o);
	unsetenv("CURSOR_WORKER_IDLE_RELEASE_TIMEOUT");
}

static void management_addresses(void **state)
{
	static const struct {
		const char *line, *host;
		int port;
	} cases[] = {{"start --management-addr :8080", "", 8080},
	    {"start --management-addr 0.0.0.0:8080", "0.0.0.0", 8080},
	    {"start --management-addr=localhost:1", "localhost", 1},
	    {"start --management-addr [::1]:65535", "::1", 65535}, {"start", NULL, 0}};

	clean_environment();
	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct worker_options o;
		struct why why;

		assert_int_equal(parse(cases[i].line, &o, &why), OK);
		assert_int_equal(o.management_port, cases[i].port);
		if (cases[i].host == NULL)
			assert_null(o.management_host);
		else
			assert_string_equal(o.management_host, cases[i].host);
		worker_options_fini(&o);
	}
}

static void personal(void **state)
{
	struct worker_options o;
	struct why why;

	clean_environment();
	setenv("CURSOR_WORKER_POOL_NAME", "ci", 1);
	assert_int_equal(parse("start --name box", &o, &why), OK);
	assert_null(o.pool);
	assert_string_equal(o.ignored_pool, "ci");
	worker_options_fini(&o);
}

static void credentials(void **state)
{
	struct worker_options o;
	struct why why;

	clean_environment();
	assert_int_equal(parse("start --auth-token abc", &o, &why), OK);
	assert_true(o.api_key == NULL && o.auth_token_file == NULL && strcmp(o.auth_token, "abc") == 0);
	worker_options_fini(&o);
	assert_int_equal(parse("--auth-token-file /run/cursor/token start", &o, &why), OK);
	assert_true(o.api_key == NULL && o.auth_token == NULL && strcmp(o.auth_token_file, "/run/cursor/token") == 0);
	worker_options_fini(&o);
	unsetenv("CURSOR_API_KEY");
	assert_int_equal(parse("start", &o, &why), ERR_UNAUTHORIZED);
	assert_non_null(strstr(why.text, "no credential"));
	worker_options_fini(&o);
	assert_int_equal(parse("start --auth-token a\tb", &o, &why), ERR_UNAUTHORIZED);
	worker_options_fini(&o);
}

static void clone_needs_no_repo(void **state)
{
	char dir[] = "/tmp/clone-XXXXXX";
	struct worker_options o;
	struct why why;

	clean_environment();
	assert_non_null(mkdtemp(dir));
	AUTO_STR line = str_printf("start --pool any --clone-git-repos --worker-dir %s", dir);
	AUTO_STR git = str_printf("cd %s && git init -q . && git remote add origin https://github.com/acme/web", dir);
	AUTO_STR remove = str_printf("rm -rf %s", dir);
	AUTO_STR path = str_dup(getenv("PATH"));

	assert_int_equal(parse(line, &o, &why), OK);
	assert_true(o.clone_git_repos);
	worker_options_fini(&o);
	/* A name that the machine's environment always has does not bind. */
	setenv("CURSOR_WORKER_NAME", "box", 1);
	assert_int_equal(parse(line, &o, &why), OK);
	worker_options_fini(&o);
	setenv("PATH", "/nonexistent", 1);
	assert_int_equal(parse(line, &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "needs git, which is not on PATH"));
	worker_options_fini(&o);
	setenv("PATH", path, 1);
	assert_int_equal(run_shell(git), 0);
	assert_int_equal(parse(line, &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "is a checkout of acme/web"));
	worker_options_fini(&o);
	/* A checkout and no git: said before that there is no credential. */
	AUTO_STR plain = str_printf("start --worker-dir %s", dir);

	setenv("PATH", "/nonexistent", 1);
	unsetenv("CURSOR_API_KEY");
	assert_int_equal(parse(plain, &o, &why), ERR_INVALID);
	assert_non_null(strstr(why.text, "git is not on PATH"));
	worker_options_fini(&o);
	setenv("PATH", path, 1);
	assert_int_equal(run_shell(remove), 0);
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
	    cmocka_unit_test(labels_of_flags),
	    cmocka_unit_test(labels_of_files),
	    cmocka_unit_test(labels_have_limits),
	    cmocka_unit_test(labels_from_flag_and_environment),
	    cmocka_unit_test(idle_release),
	    cmocka_unit_test(management_addresses),
	    cmocka_unit_test(personal),
	    cmocka_unit_test(credentials),
	    cmocka_unit_test(clone_needs_no_repo),
	    cmocka_unit_test(help_and_nothing),
	    cmocka_unit_test(environment_is_second),
	    cmocka_unit_test(config_file_is_third),
	    cmocka_unit_test(directories),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
