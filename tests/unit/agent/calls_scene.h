/* What the tests of the table of calls share: a table whose calls are fake. */
#pragma once
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
	bool several;
	char open_claim[26][32]; /* of several places by the agent's letter; touched by calls alone in theirs */
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

static inline void fake_begin(bool alone)
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

static inline void fake_end(bool alone)
{
	pthread_mutex_lock(&fake.mtx);
	fake.running--;
	if (alone)
		fake.exclusive = false;
	pthread_mutex_unlock(&fake.mtx);
}

static inline void wait_released(struct job *j)
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

static inline char *fake_claim(const struct job *j)
{
	return fake.open_claim[fake.several && !j->any_session ? j->agent_id[0] - 'a' : 0];
}

static inline void fake_run(struct job *j)
{
	bool alone = j->handler->exclusive;

	fake_begin(alone);
	j->outcome = TOOL_SUCCESS;
	if (j->handler->kind == CALL_OPEN_SESSION) {
		str_set(&j->open_agent, j->agent_id);
		str_set(&j->open_claim, j->claim_id);
	}
	if (j->handler->kind == CALL_CLOSE_SESSION && (j->any_session || strcmp(j->claim_id, fake_claim(j)) == 0)) {
		str_set(&j->open_agent, "");
		str_set(&j->open_claim, "");
	}
	if (j->open_claim != NULL)
		snprintf(fake_claim(j), sizeof fake.open_claim[0], "%s", j->open_claim);
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
	if (strncmp(j->claim_id, "news", 4) == 0)
		j->news(j->news_ctx, j->agent_id, j->claim_id, alone ? "early" : "later");
	if (strcmp(j->name, "dirty") == 0)
		j->model_text = str_dup("\xff!");
	fake_end(alone);
}

static inline void wake(void *ctx)
{
	struct bench *b = ctx;

	IGNORE(write(b->wake_fd[1], "", 1));
}

static inline int send_result(void *ctx, const Bullpen__Worker__V1__CallResult *m)
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

static inline int send_output(void *ctx, const char *call_id, int stream, const void *data, size_t len)
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

static inline int send_news(void *ctx, const char *agent_id, const char *claim_id, const char *json)
{
	struct bench *b = ctx;

	strbuf_addf(&b->log, "news %s %s %s;", agent_id, claim_id, json);
	return OK;
}

/* max_sessions 0: one place. */
static inline void bench_init_for(struct bench *b, size_t max_sessions)
{
	struct calls_config cfg = {.max_sessions = max_sessions,
	    .run = fake_run,
	    .ctx = b,
	    .wake = wake,
	    .send_result = send_result,
	    .send_output = send_output,
	    .send_news = send_news};

	*b = (struct bench){.log = STRBUF(1 << 20)};
	assert_int_equal(pipe(b->wake_fd), 0);
	fake.started = fake.released = fake.running = fake.most_running = 0;
	fake.overlap = fake.exclusive = false;
	fake.several = max_sessions > 0;
	memset(fake.open_claim, 0, sizeof fake.open_claim);
	b->calls = calls_new(&cfg);
}

static inline void bench_init(struct bench *b)
{
	bench_init_for(b, 0);
}

static inline void pump(struct bench *b)
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

static inline void bench_fini(struct bench *b)
{
	calls_cancel_all(b->calls);
	pump_until(b, calls_active(b->calls) == 0);
	calls_free(&b->calls);
	strbuf_fini(&b->log);
	free(b->last_result);
	close(b->wake_fd[0]);
	close(b->wake_fd[1]);
}

static inline void start_for(
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
static inline void start(struct bench *b, const char *id, const char *tool, const char *agent, uint64_t limit_ms)
{
	start_for(b, id, tool, agent, agent, limit_ms);
}

static inline unsigned started(void)
{
	unsigned n;

	pthread_mutex_lock(&fake.mtx);
	n = fake.started;
	pthread_mutex_unlock(&fake.mtx);
	return n;
}

static inline void release_one(void)
{
	pthread_mutex_lock(&fake.mtx);
	fake.released++;
	pthread_mutex_unlock(&fake.mtx);
}

static inline unsigned count(const struct bench *b, const char *what)
{
	unsigned n = 0;

	for (const char *p = strbuf_str(&b->log); (p = strstr(p, what)) != NULL; p++)
		n++;
	return n;
}
