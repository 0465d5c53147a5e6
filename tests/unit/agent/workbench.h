/* What the tests of the agent share: a folder of their own, a session on it, tool calls in one line. */
#pragma once
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "agent/tools/tool.h"
#include "agent/session/exec.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/mem.h"
#include "base/text.h"
#include <errno.h>
#include <limits.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct bench {
	char dir[PATH_MAX]; /* everything of this test */
	char seed[PATH_MAX]; /* dir/work: what the worker was given */
	char root[PATH_MAX]; /* the open session's copy of it; the seed while none is open */
	char state[PATH_MAX];
	const char *roots[1];
	struct session *session;
	int cancel[2];
};

/* Runs a shell command in b->dir; it must succeed. Returns its trimmed output, malloc'ed. */
static inline char *sh(struct bench *b, const char *fmt, ...)
{
	struct exec_result r;
	struct why why;
	va_list ap;
	char *out;
	int fd = open(b->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	const char *env[] = {
	    "GIT_AUTHOR_NAME=t", "GIT_AUTHOR_EMAIL=t@t", "GIT_COMMITTER_NAME=t", "GIT_COMMITTER_EMAIL=t@t", NULL};

	va_start(ap, fmt);
	AUTO_STR cmd = str_vprintf(fmt, ap);
	va_end(ap);
	assert_int_equal(exec_run(&EXEC_SPEC(.command = cmd, .cwd_fd = fd, .env = env), &r, &why), OK);
	close(fd);
	if (r.exit_code != 0)
		fail_msg("'%s' ended with %d: %s %s", cmd, r.exit_code, r.out, r.err);
	out = text_trim(r.out);
	exec_result_fini(&r);
	return out;
}
#define SH(b, ...)                                                                                                     \
	do {                                                                                                           \
		UNUSED AUTO_STR sh_out_ = sh(b, __VA_ARGS__);                                                          \
	} while (0)

/* A worker that has just started. */
static inline void bench_session(struct bench *b)
{
	session_free(&b->session);
	b->session = session_new(&(struct session_config){.roots = b->roots, .n_roots = 1, .state_dir = b->state});
	memcpy(b->root, b->seed, sizeof b->root);
}

/* Where the session that is open has its files. */
static inline void bench_follow(struct bench *b)
{
	snprintf(b->root, sizeof b->root, "%s", session_primary_root(b->session));
}

static inline void bench_open(struct bench *b)
{
	const char *tmp = getenv("TMPDIR");
	char made[PATH_MAX];

	id_init();
	setenv("GIT_CONFIG_GLOBAL", "/dev/null", 1);
	setenv("GIT_CONFIG_NOSYSTEM", "1", 1);
	snprintf(made, sizeof made, "%s/bullpen-test-XXXXXX", tmp != NULL ? tmp : "/tmp");
	assert_non_null(mkdtemp(made));
	assert_non_null(realpath(made, b->dir));
	assert_true((size_t)snprintf(b->seed, sizeof b->seed, "%.4000s/work", b->dir) < sizeof b->seed);
	memcpy(b->root, b->seed, sizeof b->root);
	assert_true((size_t)snprintf(b->state, sizeof b->state, "%.4000s/state", b->dir) < sizeof b->state);
	assert_int_equal(mkdir(b->seed, 0755), 0);
	b->roots[0] = b->seed;
	bench_session(b);
	assert_int_equal(pipe2(b->cancel, O_CLOEXEC), 0);
}

static inline void bench_close(struct bench *b)
{
	AUTO_STR dir = str_dup(b->dir);

	session_free(&b->session);
	close(b->cancel[0]);
	close(b->cancel[1]);
	SH(b, "rm -rf '%s'", dir);
}

/* A session without repository. */
static inline void bench_agent(struct bench *b, const char *agent_id)
{
	json_t *info;
	AUTO_FINI(session_failure) fail = {0};
	struct session_open want = {.agent_id = agent_id, .repo_url = "", .starting_ref = "", .branch = ""};

	if (session_open(b->session, &want, -1, INT64_MAX, &info, &fail) != OK)
		fail_msg("%s", fail.why.text);
	json_decref(info);
	bench_follow(b);
}

static inline void call_init(struct bench *b, struct tool_call *c)
{
	*c = (struct tool_call){
	    .call_id = "call-1", .session = b->session, .deadline_mono_ms = INT64_MAX, .cancel_fd = b->cancel[0]};
}

static inline struct tool_call call(struct bench *b, const char *tool, const char *fmt, ...) PRINTF_LIKE(3, 4);
static inline struct tool_call call(struct bench *b, const char *tool, const char *fmt, ...)
{
	struct tool_call c;
	va_list ap;

	va_start(ap, fmt);
	AUTO_STR args = str_vprintf(fmt, ap);
	va_end(ap);
	call_init(b, &c);
	tool_run(&c, tool, args);
	return c;
}

static inline const char *field(const struct tool_call *c, const char *name)
{
	const char *s = json_string_value(json_object_get(c->result, name));

	return s != NULL ? s : "";
}

static inline int64_t number(const struct tool_call *c, const char *name)
{
	json_t *v = json_object_get(c->result, name);

	return json_is_integer(v) ? json_integer_value(v) : -999;
}

#define assert_outcome(c, want)                                                                                        \
	do {                                                                                                           \
		if ((c)->outcome != (want))                                                                            \
			fail_msg("outcome %d: %s", (c)->outcome, (c)->model_text);                                     \
	} while (0)

/* The call must end in this error. */
static inline void expect_error(struct tool_call c, const char *code)
{
	assert_outcome(&c, TOOL_ERROR);
	if (strcmp(field(&c, "code"), code) != 0)
		fail_msg("code %s instead of %s: %s", field(&c, "code"), code, field(&c, "message"));
	tool_call_fini(&c);
}

static inline void expect_success(struct tool_call c)
{
	assert_outcome(&c, TOOL_SUCCESS);
	tool_call_fini(&c);
}

static inline void put_file(struct bench *b, const char *rel, const char *bytes, size_t len)
{
	AUTO_STR path = str_printf("%s/%s", b->root, rel);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, bytes, len), len);
	close(fd);
}

static inline void put_text(struct bench *b, const char *rel, const char *text)
{
	put_file(b, rel, text, strlen(text));
}

/* Content of a file below the root; malloc'ed. */
static inline char *get_text(struct bench *b, const char *rel)
{
	AUTO_STR path = str_printf("%s/%s", b->root, rel);
	char *text;
	size_t len;

	if (text_read_file(path, 1 << 24, &text, &len) != OK)
		fail_msg("cannot read %s", path);
	return text;
}

#define assert_file(b, rel, want)                                                                                      \
	do {                                                                                                           \
		AUTO_STR got_ = get_text(b, rel);                                                                      \
		assert_string_equal(got_, want);                                                                       \
	} while (0)

/* The open session's files under a short name, for shell commands. */
static inline void bench_link(struct bench *b)
{
	SH(b, "rm -rf work && ln -s '%s' work", b->root);
}

static inline int setup_bench(void **state)
{
	struct bench *b = NEW(struct bench);

	bench_open(b);
	snprintf(b->seed, sizeof b->seed, "%.4000s/given", b->dir);
	assert_int_equal(mkdir(b->seed, 0755), 0);
	bench_session(b);
	bench_agent(b, "bc-test");
	bench_link(b);
	*state = b;
	return 0;
}

/* Another agent, that is given what the one before had made. */
static inline void bench_next_agent(struct bench *b, const char *agent_id)
{
	SH(b, "cp -a '%s/.' '%s'", b->root, b->seed);
	bench_agent(b, agent_id);
	bench_link(b);
}

static inline int teardown_bench(void **state)
{
	bench_close(*state);
	free(*state);
	return 0;
}
