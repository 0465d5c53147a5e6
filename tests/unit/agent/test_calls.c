/* The table of calls with a fake tool: at most once, in turn, and kept until acknowledged. */
#include "agent/worker/backoff.h"
#include "agent/worker/calls.h"
#include "agent/worker/outflow.h"
#include "agent/session/session.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define WAIT_MS 20000

/* The fake tools: what a call does is its tool's name: "wait" until released or cancelled, "talk" a lot, "echo",
 * "mute".
 */
static struct {
	pthread_mutex_t mtx;
	pthread_cond_t changed;
	unsigned started, released, running, most_running;
	bool overlap; /* something ran beside an exclusive call */
	bool exclusive;
	char open_claim[32]; /* touched by exclusive calls only */
} fake = {.mtx = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct bench {
	struct calls *calls;
	struct strbuf log; /* "result ID OUTCOME;" */
	char *last_result;
	unsigned words; /* of stream 3 */
	char last_word[64];
	size_t output_bytes, chunks;
	int output_rc;
	unsigned refuse_results;
	int wake_fd[2];
};

static void fake_begin(bool alone)
{
	pthread_mutex_lock(&fake.mtx);
	fake.started++;
	fake.running++;
	fake.most_running = MAX(fake.most_running, fake.running);
	fake.overlap = fake.overlap || fake.exclusive || (alone && fake.running > 1);
	fake.exclusive = fake.exclusive || alone;
	pthread_cond_broadcast(&fake.changed);
	pthread_mutex_unlock(&fake.mtx);
}

static void fake_end(bool alone)
{
	pthread_mutex_lock(&fake.mtx);
	fake.running--;
	if (alone)
		fake.exclusive = false;
	pthread_mutex_unlock(&fake.mtx);
}

static void wait_released(struct job *j)
{
	struct pollfd p = {j->cancel_fd, POLLIN, 0};
	bool released;

	do {
		pthread_mutex_lock(&fake.mtx);
		released = fake.released > 0;
		fake.released -= released;
		pthread_mutex_unlock(&fake.mtx);
	} while (!released && poll(&p, 1, 5) == 0);
	if (!released)
		job_error(j, "cancelled", "cancelled");
}

static void fake_run(struct job *j)
{
	bool alone = j->handler->exclusive;

	fake_begin(alone);
	j->outcome = TOOL_SUCCESS;
	if (j->handler->kind == CALL_OPEN_SESSION) {
		str_set(&j->open_agent, j->agent_id);
		str_set(&j->open_claim, j->claim_id);
	}
	if (j->handler->kind == CALL_CLOSE_SESSION && (j->any_session || strcmp(j->claim_id, fake.open_claim) == 0)) {
		str_set(&j->open_agent, "");
		str_set(&j->open_claim, "");
	}
	if (j->open_claim != NULL)
		snprintf(fake.open_claim, sizeof fake.open_claim, "%s", j->open_claim);
	if (strcmp(j->name, "wait") == 0)
		wait_released(j);
	if (strcmp(j->name, "talk") == 0)
		for (int i = 0; i < 2000; i++)
			j->on_output(j->on_output_ctx, 1 + i % 2, "0123456789012345678901234567890123456789", 40);
	if (strcmp(j->name, "progress") == 0) {
		for (int i = 0; i < 100000; i++) {
			AUTO_STR word = str_printf("file %d", i);

			j->on_output(j->on_output_ctx, 3, word, strlen(word));
		}
		j->on_output(j->on_output_ctx, 1, "done", 4);
	}
	if (strcmp(j->name, "flood") == 0) {
		AUTO_STR big = mem_zalloc(3 << 20);

		j->on_output(j->on_output_ctx, 1, big, 3 << 20);
	}
	if (strcmp(j->name, "mute") == 0)
		j->outcome = 0;
	if (strcmp(j->name, "huge") == 0) {
		j->result_json = mem_alloc(5 << 20);
		memset(j->result_json, 'x', (5 << 20) - 1);
		j->result_json[(5 << 20) - 1] = '\0';
	}
	if (strcmp(j->name, "long") == 0) {
		AUTO_STR big = mem_alloc((5 << 20) + 1);

		memset(big, 'x', 5 << 20);
		big[5 << 20] = '\0';
		j->result_json = str_printf("{\"exitCode\":0,\"output\":[{\"text\":\"%s\"}]}", big);
		j->sdk_json = str_printf("{\"text\":\"%s\"}", big);
	}
	if (strcmp(j->name, "dirty") == 0)
		j->model_text = str_dup("\xff!");
	fake_end(alone);
}

static void wake(void *ctx)
{
	struct bench *b = ctx;

	IGNORE(write(b->wake_fd[1], "", 1));
}

static int send_result(void *ctx, const Bullpen__Worker__V1__CallResult *m)
{
	struct bench *b = ctx;

	if (b->refuse_results > 0) {
		b->refuse_results--;
		return ERR_TOO_LARGE;
	}
	str_set(&b->last_result, m->result_json);
	strbuf_addf(&b->log, "%s %d %.200s;", m->call_id, (int)m->outcome, m->result_json);
	return OK;
}

static int send_output(void *ctx, const char *call_id, int stream, const void *data, size_t len)
{
	struct bench *b = ctx;

	if (b->output_rc != OK)
		return b->output_rc;
	if (stream == 3) {
		b->words++;
		snprintf(b->last_word, sizeof b->last_word, "%.*s", (int)len, (const char *)data);
		return OK;
	}
	assert_true(len <= OUTFLOW_CHUNK);
	b->output_bytes += len;
	b->chunks++;
	return OK;
}

static void bench_init(struct bench *b)
{
	struct calls_config cfg = {
	    .run = fake_run, .ctx = b, .wake = wake, .send_result = send_result, .send_output = send_output};

	*b = (struct bench){.log = STRBUF(1 << 20)};
	assert_int_equal(pipe(b->wake_fd), 0);
	fake.started = fake.released = fake.running = fake.most_running = 0;
	fake.overlap = fake.exclusive = false;
	fake.open_claim[0] = '\0';
	b->calls = calls_new(&cfg);
}

static void pump(struct bench *b)
{
	struct pollfd p = {b->wake_fd[0], POLLIN, 0};
	int64_t now = clock_mono_ms(), next = calls_pump(b->calls, now);
	char drop[256];

	if (poll(&p, 1, (int)MIN(MAX(next - now, 0), 20)) > 0)
		IGNORE(read(b->wake_fd[0], drop, sizeof drop));
}

#define pump_until(b, condition)                                                                                       \
	do {                                                                                                           \
		int64_t give_up_ = clock_mono_ms() + WAIT_MS;                                                          \
		while (!(condition)) {                                                                                 \
			assert_true(clock_mono_ms() < give_up_);                                                       \
			pump(b);                                                                                       \
		}                                                                                                      \
	} while (0)

static void bench_fini(struct bench *b)
{
	calls_cancel_all(b->calls);
	pump_until(b, calls_active(b->calls) == 0);
	calls_free(&b->calls);
	strbuf_fini(&b->log);
	free(b->last_result);
	close(b->wake_fd[0]);
	close(b->wake_fd[1]);
}

static void start_for(
    struct bench *b, const char *id, const char *tool, const char *agent, const char *claim, uint64_t limit_ms)
{
	Bullpen__Worker__V1__Call m = BULLPEN__WORKER__V1__CALL__INIT;

	m.call_id = (char *)(uintptr_t)id;
	m.agent_id = (char *)(uintptr_t)agent;
	m.claim_id = (char *)(uintptr_t)claim;
	m.limit_ms = limit_ms;
	m.kind = strcmp(tool, "OPEN") == 0    ? CALL_OPEN_SESSION
		 : strcmp(tool, "CLOSE") == 0 ? CALL_CLOSE_SESSION
					      : CALL_TOOL;
	if (m.kind == CALL_TOOL)
		m.name = (char *)(uintptr_t)tool;
	calls_start(b->calls, &m, clock_mono_ms());
}

/* The claim is called as its agent. */
static void start(struct bench *b, const char *id, const char *tool, const char *agent, uint64_t limit_ms)
{
	start_for(b, id, tool, agent, agent, limit_ms);
}

static unsigned started(void)
{
	unsigned n;

	pthread_mutex_lock(&fake.mtx);
	n = fake.started;
	pthread_mutex_unlock(&fake.mtx);
	return n;
}

static void release_one(void)
{
	pthread_mutex_lock(&fake.mtx);
	fake.released++;
	pthread_mutex_unlock(&fake.mtx);
}

static unsigned count(const struct bench *b, const char *what)
{
	unsigned n = 0;

	for (const char *p = strbuf_str(&b->log); (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}

static void a_repeated_call_is_not_repeated(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "wait", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 1);
	release_one();
	pump_until(&b, count(&b, "c1 1 ") == 1);
	start(&b, "c1", "wait", "a", 0); /* finished: its result again */
	assert_int_equal(count(&b, "c1 1 "), 2);
	calls_acknowledge(b.calls, "c1");
	assert_int_equal(calls_unacknowledged(b.calls), 0);
	start(&b, "c1", "wait", "a", 0); /* acknowledged: an error, but never again */
	assert_int_equal(count(&b, "already_done"), 1);
	assert_int_equal(started(), 1);
	bench_fini(&b);
}

static void results_are_kept_until_acknowledged(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "agent-1", 0);
	pump_until(&b, count(&b, "open 1 ") == 1);
	start(&b, "c1", "echo", "agent-1", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	start(&b, "c2", "wait", "agent-1", 0);
	calls_acknowledge(b.calls, "open");
	calls_acknowledge(b.calls, "c2"); /* not finished: no meaning */
	calls_acknowledge(b.calls, "nobody"); /* neither */
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.agent_id, "agent-1");
	assert_int_equal(h.n_calls, 2);
	assert_string_equal(h.calls[0]->call_id, "c1");
	assert_true(h.calls[0]->finished);
	assert_string_equal(h.calls[1]->call_id, "c2");
	assert_false(h.calls[1]->finished);
	calls_resend(b.calls);
	assert_int_equal(count(&b, "c1 1 "), 2);
	assert_int_equal(count(&b, "c2 "), 0);
	bench_fini(&b);
}

static void cancelling(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "wait", "a", 0);
	start(&b, "open", "OPEN", "a", 0);
	start(&b, "c2", "echo", "a", 0); /* behind the open */
	pump_until(&b, started() == 1);
	calls_cancel(b.calls, "nobody");
	calls_cancel(b.calls, "c2");
	assert_int_equal(count(&b, "c2 3 "), 1);
	calls_cancel(b.calls, "c1");
	pump_until(&b, count(&b, "c1 3 ") == 1 && count(&b, "open 1 ") == 1);
	assert_int_equal(started(), 2);
	bench_fini(&b);
}

static void limits_are_enforced(void **state)
{
	struct bench b;

	bench_init(&b);
	/* The tool that waits does not look at its deadline: the table cancels it. */
	start(&b, "c1", "wait", "a", 1);
	pump_until(&b, count(&b, "c1 3 ") == 1);
	bench_fini(&b);
}

static void session_calls_run_alone(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "a", 0);
	for (int i = 0; i < 10; i++) {
		char id[16];

		snprintf(id, sizeof id, "w%d", i);
		start(&b, id, "wait", "a", 0);
	}
	pump_until(&b, started() == 11);
	assert_int_equal(fake.most_running, 10);
	start(&b, "open2", "OPEN", "a", 0); /* same agent: waits, cancels nothing */
	start(&b, "later", "echo", "a", 0);
	assert_int_equal(started(), 11);
	for (int i = 0; i < 10; i++)
		release_one();
	pump_until(&b, count(&b, "later 1 ") == 1);
	assert_int_equal(count(&b, " 3 "), 0);
	assert_false(fake.overlap);
	bench_fini(&b);
}

static void another_agent_ends_the_calls_of_the_first(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	start(&b, "open2", "OPEN", "b", 0);
	pump_until(&b, count(&b, "open2 1 ") == 1);
	assert_int_equal(count(&b, "c1 3 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "b");
	start(&b, "c2", "wait", "b", 0);
	start(&b, "end", "CLOSE", "b", 0);
	pump_until(&b, count(&b, "end 1 ") == 1);
	assert_int_equal(count(&b, "c2 3 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "");
	/* Our own closing answers nobody. */
	start(&b, "open3", "OPEN", "c", 0);
	pump_until(&b, count(&b, "open3 1 ") == 1);
	calls_close_session(b.calls);
	pump_until(&b, calls_active(b.calls) == 0);
	assert_string_equal(calls_open_agent(b.calls), "");
	assert_int_equal(count(&b, "close "), 0);
	bench_fini(&b);
}

static void closing_the_session_of_one_agent_leaves_another_alone(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open", "OPEN", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	/* Late, or meant for somebody else: it waits its turn, and neither cancels nor closes. */
	start(&b, "end-b", "CLOSE", "b", 0);
	pump(&b);
	assert_int_equal(count(&b, "c1 "), 0);
	release_one();
	pump_until(&b, count(&b, "end-b 1 ") == 1);
	assert_int_equal(count(&b, "c1 1 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "a");
	/* Its own takes its own calls along, and no others. */
	start(&b, "c2", "wait", "a", 0);
	start(&b, "c3", "wait", "b", 0);
	pump_until(&b, started() == 5);
	start(&b, "end-a", "CLOSE", "a", 0);
	pump_until(&b, count(&b, "c2 3 ") == 1);
	assert_int_equal(count(&b, "c3 "), 0);
	release_one();
	pump_until(&b, count(&b, "end-a 1 ") == 1);
	assert_int_equal(count(&b, "c3 1 "), 1);
	assert_string_equal(calls_open_agent(b.calls), "");
	bench_fini(&b);
}

static void a_late_close_leaves_the_next_claim_of_the_same_agent_alone(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct bench b;

	bench_init(&b);
	start_for(&b, "open-1", "OPEN", "a", "claim-1", 0);
	start_for(&b, "c1", "wait", "a", "claim-1", 0);
	pump_until(&b, started() == 2);
	/* The claim ended, the agent came back with a new one: what ran for the first is over. */
	start_for(&b, "open-2", "OPEN", "a", "claim-2", 0);
	pump_until(&b, count(&b, "open-2 1 ") == 1);
	assert_int_equal(count(&b, "c1 3 "), 1);
	start_for(&b, "c2", "wait", "a", "claim-2", 0);
	pump_until(&b, started() == 4);
	/* Only now the close of the first arrives. */
	start_for(&b, "end-1", "CLOSE", "a", "claim-1", 0);
	pump(&b);
	assert_int_equal(count(&b, "c2 "), 0);
	release_one();
	pump_until(&b, count(&b, "end-1 1 ") == 1);
	assert_int_equal(count(&b, "c2 1 "), 1);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.agent_id, "a");
	assert_string_equal(h.session_claim_id, "claim-2");
	start_for(&b, "end-2", "CLOSE", "a", "claim-2", 0);
	pump_until(&b, count(&b, "end-2 1 ") == 1);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.session_claim_id, "");
	bench_fini(&b);
}

/* Only the close can name what was kept: the opening that comes behind it closes the session unheard. */
static void a_close_that_waits_is_not_ended_by_the_next_opening(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "open-a", "OPEN", "a", 0);
	start(&b, "c1", "wait", "a", 0);
	pump_until(&b, started() == 2);
	/* Without a pump in between the close waits for the call that it has just ended. */
	start(&b, "end-a", "CLOSE", "a", 0);
	start(&b, "open-b", "OPEN", "b", 0);
	assert_int_equal(count(&b, "end-a "), 0);
	pump_until(&b, count(&b, "open-b 1 ") == 1);
	assert_int_equal(count(&b, "c1 3 "), 1);
	assert_int_equal(count(&b, "end-a 1 "), 1);
	assert_false(fake.overlap);
	assert_string_equal(calls_open_agent(b.calls), "b");
	bench_fini(&b);
}

/* A Hello in between must not say that the session is open: the control plane would send calls for it. */
static void a_session_that_is_being_closed_is_not_told_as_open(void **state)
{
	Bullpen__Worker__V1__Hello h = BULLPEN__WORKER__V1__HELLO__INIT;
	struct bench b;

	bench_init(&b);
	start_for(&b, "open", "OPEN", "a", "claim-1", 0);
	start_for(&b, "c1", "wait", "a", "claim-1", 0);
	pump_until(&b, started() == 2);
	calls_close_session(b.calls);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.session_claim_id, "");
	assert_string_equal(h.agent_id, "");
	/* An opening that waits behind it is new. */
	start_for(&b, "open-2", "OPEN", "a", "claim-1", 0);
	pump_until(&b, count(&b, "open-2 1 ") == 1);
	calls_fill_hello(b.calls, &h);
	assert_string_equal(h.session_claim_id, "claim-1");
	bench_fini(&b);
}

static char *run_job(struct session *s, call_kind kind, const char *agent, const char *claim, const char *args)
{
	struct job j = {.handler = call_handler_find(kind),
	    .call_id = str_dup("c"),
	    .agent_id = str_dup(agent != NULL ? agent : ""),
	    .claim_id = str_dup(claim),
	    .name = str_dup(""),
	    .arguments_json = str_dup(args),
	    .any_session = agent == NULL,
	    .deadline_mono_ms = INT64_MAX,
	    .cancel_fd = -1,
	    .session = s};
	char *outcome;

	job_run(&j);
	outcome = j.outcome == TOOL_SUCCESS ? str_dup("success") : str_dup(j.result_json);
	job_fini(&j);
	return outcome;
}

static void expect_job(
    struct session *s, call_kind kind, const char *agent, const char *claim, const char *args, const char *outcome)
{
	AUTO_STR got = run_job(s, kind, agent, claim, args);

	if (strstr(got, outcome) == NULL)
		fail_msg("%s instead of %s", got, outcome);
}

static void a_real_session_is_closed_by_its_own_agent_only(void **state)
{
	char dir[] = "/tmp/bullpen-calls-XXXXXX";
	AUTO_STR state_dir = NULL;
	AUTO_STR root = NULL;
	const char *roots[1];
	struct session_config cfg = {.roots = roots, .n_roots = 1};
	struct session *s;

	assert_non_null(mkdtemp(dir));
	state_dir = str_printf("%s/sessions", dir);
	root = str_printf("%s/work", dir);
	assert_int_equal(mkdir(root, 0700), 0);
	roots[0] = root;
	cfg.state_dir = state_dir;
	s = session_new(&cfg);
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{}", "success");
	expect_job(s, CALL_CLOSE_SESSION, "b", "1", "", "success");
	expect_job(s, CALL_CLOSE_SESSION, "a", "2", "", "success");
	expect_job(s, CALL_CLOSE_SESSION, "", "", "", "success");
	assert_string_equal(session_agent_id(s), "a");
	/* Work for another claim of its agent is not for this session either. */
	expect_job(s, CALL_PUBLISH, "a", "2", "{}", "no_session");
	expect_job(s, CALL_TOOL, "a", "2", "{}", "no_session");
	expect_job(s, CALL_TOOL, "a", "1", "{}", "unknown_tool");
	expect_job(s, CALL_CLOSE_SESSION, "a", "1", "", "success");
	assert_string_equal(session_agent_id(s), "");
	/* The same agent again, under a new claim: the session goes on under its name. */
	expect_job(s, CALL_OPEN_SESSION, "a", "3", "{}", "success");
	expect_job(s, CALL_OPEN_SESSION, "a", "4", "{}", "success");
	assert_string_equal(session_claim_id(s), "4");
	/* Our own closing asks nobody. */
	expect_job(s, CALL_CLOSE_SESSION, NULL, "", "", "success");
	assert_string_equal(session_agent_id(s), "");
	assert_string_equal(session_claim_id(s), "");
	session_free(&s);
	assert_int_equal(rmdir(state_dir), 0);
	assert_int_equal(rmdir(root), 0);
	assert_int_equal(rmdir(dir), 0);
}

static void a_call_is_checked_by_its_handler(void **state)
{
	char dir[] = "/tmp/bullpen-calls-XXXXXX";
	const char *roots[1] = {dir};
	struct session_config cfg = {.roots = roots, .n_roots = 1, .state_dir = dir};
	struct session *s;

	assert_non_null(mkdtemp(dir));
	s = session_new(&cfg);
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{\"repoUrl\":1}", "invalid_arguments");
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{\"workOnCurrentBranch\":\"yes\"}", "invalid_arguments");
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "[]", "invalid_arguments");
	expect_job(s, CALL_OPEN_SESSION, "a", "1", "{", "invalid_arguments");
	assert_string_equal(session_agent_id(s), "");
	/* Newer than this program. */
	expect_job(s, (call_kind)77, "a", "1", "{}", "unknown_call");
	expect_job(s, BULLPEN__WORKER__V1__CALL_KIND__CALL_KIND_UNSPECIFIED, "a", "1", "{}", "unknown_call");
	session_free(&s);
	assert_int_equal(rmdir(dir), 0);
}

static void expect_failure(int rc, bool machine, const char *code)
{
	struct job j = {0};
	AUTO_JSON result = NULL;
	AUTO_FINI(session_failure)
	f = {.machine = machine,
	    .said = str_dup("remote: still counting"),
	    .kept = json_pack("{s:s}", "ref", "refs/bullpen/agents/a/work")};

	why_set(&f.why, rc, "git push took too long");
	job_error_of_session(&j, rc, "publish_failed", &f);
	assert_int_equal(j.outcome, TOOL_ERROR);
	assert_string_equal(j.model_text, "git push took too long");
	assert_int_equal(json_parse(j.result_json, strlen(j.result_json), &result, NULL), OK);
	assert_string_equal(json_string_value(json_object_get(result, "code")), code);
	assert_string_equal(json_string_value(json_object_get(result, "output")), "remote: still counting");
	assert_true(json_equal(json_object_get(result, "kept"), f.kept));
	job_fini(&j);
}

/* Whatever the failure was: the work that was kept has no other witness. */
static void a_failed_session_names_what_was_kept(void **state)
{
	expect_failure(ERR_INVALID, false, "publish_failed");
	expect_failure(ERR_TIMEOUT, false, "timeout");
	expect_failure(ERR_CANCELLED, false, "cancelled");
	expect_failure(ERR_NET, true, "worker_unfit");
	expect_failure(ERR_TIMEOUT, true, "worker_unfit");
	expect_failure(ERR_CANCELLED, true, "cancelled");
}

static void outcomes_can_always_be_sent(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "mute", "a", 0);
	start(&b, "c2", "huge", "a", 0);
	start(&b, "c3", "dirty", "a", 0);
	pump_until(&b, calls_unacknowledged(b.calls) == 3);
	assert_int_equal(count(&b, "c1 3 "), 1);
	assert_int_equal(count(&b, "c2 3 "), 1);
	assert_int_equal(count(&b, "c3 1 "), 1);
	b.refuse_results = 1;
	start(&b, "c4", "echo", "a", 0);
	pump_until(&b, count(&b, "c4 3 ") == 1);
	calls_refuse(b.calls, "worker_stopping", "stopping");
	start(&b, "c5", "echo", "a", 0);
	assert_int_equal(count(&b, "c5 3 "), 1);
	bench_fini(&b);
}

/* What was done was done: a result that is too large for the link is cut, its outcome is not. */
static void a_large_result_is_cut_and_keeps_its_outcome(void **state)
{
	struct bench b;
	AUTO_JSON result = NULL;
	const char *text;

	bench_init(&b);
	start(&b, "c1", "long", "a", 0);
	pump_until(&b, calls_unacknowledged(b.calls) == 1);
	assert_int_equal(count(&b, "c1 1 "), 1);
	assert_int_equal(json_parse(b.last_result, strlen(b.last_result), &result, NULL), OK);
	assert_true(strlen(b.last_result) < 4 << 20);
	assert_true(json_is_true(json_object_get(result, "truncated")));
	assert_int_equal(json_integer_value(json_object_get(result, "exitCode")), 0);
	text = json_string_value(json_object_get(json_array_get(json_object_get(result, "output"), 0), "text"));
	assert_non_null(strstr(text, "bytes left out"));
	bench_fini(&b);
}

static void output_is_coalesced_and_capped(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "talk", "a", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	assert_int_equal(b.output_bytes, 2000 * 40);
	assert_true(b.chunks <= 40);
	b.output_bytes = 0;
	start(&b, "c2", "flood", "a", 0);
	pump_until(&b, count(&b, "c2 1 ") == 1);
	assert_int_equal(b.output_bytes, OUTFLOW_TOTAL);
	bench_fini(&b);
}

/* A word about what a call is doing replaces the one before, and is none of its output. */
static void of_many_words_the_last_is_told(void **state)
{
	struct bench b;

	bench_init(&b);
	start(&b, "c1", "progress", "a", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	assert_string_equal(b.last_word, "file 99999");
	assert_true(b.words < 1000);
	assert_int_equal(b.output_bytes, 4);
	bench_fini(&b);
}

/* A full outbox slows a call down a little and never stops it. */
static void output_that_nobody_takes_is_dropped(void **state)
{
	struct bench b;
	int64_t start_ms = clock_mono_ms();

	bench_init(&b);
	b.output_rc = ERR_FULL;
	start(&b, "c1", "flood", "a", 0);
	pump_until(&b, count(&b, "c1 1 ") == 1);
	assert_int_equal(b.output_bytes, 0);
	assert_true(clock_mono_ms() - start_ms < 5000);
	bench_fini(&b);
}

static void backing_off(void **state)
{
	struct backoff b = {0};

	/* Failed dials: 0.5..1 of 1, 2, 4 … 60 s. */
	assert_int_equal(backoff_next(&b, -1, 0, 0), 500);
	assert_in_range(backoff_next(&b, -1, 0, UINT32_MAX), 1990, 2000);
	for (int i = 0; i < 20; i++)
		backoff_next(&b, -1, 0, 0);
	assert_int_equal(backoff_next(&b, -1, 0, 0), 30000);
	/* An established one that drops: at once, but once. */
	assert_int_equal(backoff_next(&b, BACKOFF_HEALTHY_MS, 0, 0), 0);
	assert_int_equal(backoff_next(&b, -1, 0, 0), 500);
	assert_int_equal(backoff_next(&b, 10, 0, 0), 1000);
	assert_int_equal(backoff_next(&b, 10, 0, 0), 2000);
	assert_int_equal(backoff_next(&b, BACKOFF_HEALTHY_MS, 0, 0), 0);
	/* What the control plane asks for, within reason. */
	assert_int_equal(backoff_next(&b, -1, 7000, 0), 7000);
	assert_int_equal(backoff_next(&b, -1, INT64_MAX, 0), BACKOFF_MAX_ASKED_MS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_repeated_call_is_not_repeated),
	    cmocka_unit_test(results_are_kept_until_acknowledged),
	    cmocka_unit_test(cancelling),
	    cmocka_unit_test(limits_are_enforced),
	    cmocka_unit_test(session_calls_run_alone),
	    cmocka_unit_test(another_agent_ends_the_calls_of_the_first),
	    cmocka_unit_test(closing_the_session_of_one_agent_leaves_another_alone),
	    cmocka_unit_test(a_late_close_leaves_the_next_claim_of_the_same_agent_alone),
	    cmocka_unit_test(a_close_that_waits_is_not_ended_by_the_next_opening),
	    cmocka_unit_test(a_session_that_is_being_closed_is_not_told_as_open),
	    cmocka_unit_test(a_call_is_checked_by_its_handler),
	    cmocka_unit_test(a_real_session_is_closed_by_its_own_agent_only),
	    cmocka_unit_test(a_failed_session_names_what_was_kept),
	    cmocka_unit_test(outcomes_can_always_be_sent),
	    cmocka_unit_test(a_large_result_is_cut_and_keeps_its_outcome),
	    cmocka_unit_test(output_is_coalesced_and_capped),
	    cmocka_unit_test(of_many_words_the_last_is_told),
	    cmocka_unit_test(output_that_nobody_takes_is_dropped),
	    cmocka_unit_test(backing_off),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
