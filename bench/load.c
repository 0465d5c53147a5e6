/* The clients of the bench; one JSON line on stdout.
 *   bench-load requests PORT KEY METHOD PATH BODY|- CONNECTIONS SECONDS
 *   bench-load runs PORT KEY BODY CONNECTIONS COUNT     each: POST /v1/agents, then its stream to the end
 *   bench-load each PORT KEY BODIES CONNECTIONS         POST /v1/agents with each line of BODIES once
 *   bench-load readers PORT KEY BODY RUNS READERS GO    RUNS runs at once with READERS streams over them; the prompt's
 *                                                       first step waits until somebody listens on port GO, when all
 * readers do bench-load whole PORT KEY PATH                     one GET, its answer read to the end bench-load waiting
 * PORT KEY BODY RUNS PID SECONDS   RUNS runs that nobody takes, each with a reader; then the share of a core that the
 * server (PID) needs while nothing happens BODY is a file. Times are microseconds. */
#include "base/mem.h"
#include "base/text.h"
#include "bench/http_reader.h"
#include "bench/measure.h"
#include <arpa/inet.h>
#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define MAX_SAMPLES 2000000
#define MAX_EVENTS 20000
#define STACK_BYTES (256 * 1024)

static uint16_t port;
static const char *key;

static char *request(const char *method, const char *path, const char *body)
{
	size_t len = body != NULL ? strlen(body) : 0;

	return str_printf("%s %s HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer %s\r\n"
			  "content-type: application/json\r\ncontent-length: %zu\r\n\r\n%s",
	    method, path, key, len, body != NULL ? body : "");
}

/* Starts n threads and waits for them. */
static void in_threads(size_t n, void *(*fn)(void *arg), void *arg)
{
	pthread_t *threads = mem_alloc(n * sizeof *threads);
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	for (size_t i = 0; i < n; i++)
		if (pthread_create(&threads[i], &attr, fn, arg) != 0)
			bench_die("cannot start thread %zu", i);
	for (size_t i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	free(threads);
}

/* requests */

static struct {
	char *text;
	int64_t until_ns;
	_Atomic uint64_t good, bad;
} requests;

static void *request_thread(void *arg)
{
	int fd = http_connect(port);
	struct http_reader r;
	size_t len = strlen(requests.text);

	http_reader_init(&r, NULL, NULL);
	while (bench_now_ns() < requests.until_ns) {
		http_send_all(fd, requests.text, len);
		http_read_response(fd, &r);
		if (r.status / 100 == 2)
			requests.good++;
		else
			requests.bad++;
	}
	http_reader_fini(&r);
	close(fd);
	return NULL;
}

static void run_requests(char **argv)
{
	AUTO_STR body = strcmp(argv[2], "-") == 0 ? NULL : bench_slurp(argv[2]);
	size_t connections = (size_t)bench_number("CONNECTIONS", argv[3]);
	int64_t seconds = bench_number("SECONDS", argv[4]), from = bench_now_ns();
	double took;

	requests.text = request(argv[0], argv[1], body);
	requests.until_ns = from + seconds * 1000000000;
	in_threads(connections, request_thread, NULL);
	took = (double)(bench_now_ns() - from) / 1e9;
	printf("{\"good\":%llu,\"bad\":%llu,\"per_s\":%.1f,\"client_cpu_s\":%.3f}\n", (unsigned long long)requests.good,
	    (unsigned long long)requests.bad, (double)requests.good / took, (double)bench_cpu_ns() / 1e9);
	free(requests.text);
}

/* whole */

static void run_whole(char **argv)
{
	AUTO_STR get = request("GET", argv[0], NULL);
	int fd = http_connect(port);
	int64_t from = bench_now_ns();
	static char buf[256 * 1024];
	struct http_reader r;
	size_t total = 0;
	double took;

	http_reader_init(&r, NULL, NULL);
	http_send_all(fd, get, strlen(get));
	while (!r.done) {
		ssize_t n = recv(fd, buf, sizeof buf, 0);

		if (n <= 0)
			bench_die("the answer was cut after %zu bytes", total);
		total += (size_t)n;
		IGNORE(http_reader_feed(&r, buf, (size_t)n));
	}
	took = (double)(bench_now_ns() - from) / 1e9;
	printf("{\"bad\":%d,\"count\":1,\"seconds\":%.4f,\"mb_per_s\":%.1f}\n", r.status != 200, took,
	    (double)total / took / 1e6);
	http_reader_fini(&r);
	close(fd);
}

/* each */

static struct {
	char **text;
	size_t n;
	_Atomic size_t next;
	int64_t *took;
} bodies;

static void *each_thread(void *arg)
{
	int fd = http_connect(port);
	struct http_reader r;
	size_t i;

	http_reader_init(&r, NULL, NULL);
	while ((i = bodies.next++) < bodies.n) {
		int64_t from = bench_now_ns();

		http_send_all(fd, bodies.text[i], strlen(bodies.text[i]));
		http_read_response(fd, &r);
		bodies.took[i] = bench_now_ns() - from;
		if (r.status != 201)
			bench_die("POST /v1/agents answered %d", r.status);
	}
	http_reader_fini(&r);
	close(fd);
	return NULL;
}

static void run_each(char **argv)
{
	AUTO_STR all = bench_slurp(argv[0]);
	char *save = NULL;
	size_t cap = 0;

	for (char *line = strtok_r(all, "\n", &save); line != NULL; line = strtok_r(NULL, "\n", &save)) {
		bodies.text = mem_grow(bodies.text, &cap, bodies.n + 1, sizeof *bodies.text);
		bodies.text[bodies.n++] = request("POST", "/v1/agents", line);
	}
	bodies.took = mem_zalloc((bodies.n + 1) * sizeof *bodies.took);
	in_threads((size_t)bench_number("CONNECTIONS", argv[1]), each_thread, NULL);
	putchar('{');
	bench_print("post", bodies.took, bodies.n);
	puts("}");
}

/* runs */

static struct {
	char *post;
	int64_t count;
	_Atomic int64_t next, bad;
	int64_t *created, *first_call, *whole;
	_Atomic size_t n_calls;
} runs;

struct one_run {
	char agent[64], id[64];
	char event[32];
	int64_t posted_ns, first_call_ns;
	bool finished;
	char said[200]; /* the last line of the answer, for complaints */
};

static void find_id(const char *line, const char *prefix, char *out, size_t size)
{
	const char *at = strstr(line, prefix);

	if (out[0] == '\0' && at != NULL)
		snprintf(out, MIN(size, strcspn(at + 1, "\"") + 1), "%s", at + 1);
}

static void on_created(void *ctx, const char *line, size_t len)
{
	struct one_run *run = ctx;

	snprintf(run->said, sizeof run->said, "%s", line);
	find_id(line, "\"bc-", run->agent, sizeof run->agent);
	find_id(line, "\"run-", run->id, sizeof run->id);
}

static void on_stream_line(void *ctx, const char *line, size_t len)
{
	struct one_run *run = ctx;

	if (text_has_prefix(line, "event: ")) {
		snprintf(run->event, sizeof run->event, "%.*s", (int)MIN(len - 7, sizeof run->event - 1), line + 7);
	} else if (text_has_prefix(line, "data: ")) {
		if (run->first_call_ns == 0 && strcmp(run->event, "tool_call") == 0)
			run->first_call_ns = bench_now_ns();
		if (strcmp(run->event, "result") == 0 && strstr(line, "\"FINISHED\"") != NULL)
			run->finished = true;
	}
}

static void create(int fd, struct http_reader *r, struct one_run *run, const char *post, size_t len)
{
	*run = (struct one_run){.posted_ns = bench_now_ns()};
	r->on_line = on_created;
	r->ctx = run;
	http_send_all(fd, post, len);
	http_read_response(fd, r);
	if (r->status != 201 || run->agent[0] == '\0' || run->id[0] == '\0')
		bench_die("POST /v1/agents answered %d: %s", r->status, run->said);
}

static char *stream_request(const struct one_run *run)
{
	AUTO_STR path = str_printf("/v1/agents/%s/runs/%s/stream", run->agent, run->id);

	return request("GET", path, NULL);
}

static void *runs_thread(void *arg)
{
	int fd = http_connect(port);
	struct http_reader r;
	struct one_run run;
	size_t len = strlen(runs.post);
	int64_t i;

	http_reader_init(&r, NULL, NULL);
	while ((i = runs.next++) < runs.count) {
		create(fd, &r, &run, runs.post, len);
		runs.created[i] = bench_now_ns() - run.posted_ns;
		AUTO_STR get = stream_request(&run);

		r.on_line = on_stream_line;
		http_send_all(fd, get, strlen(get));
		http_read_response(fd, &r);
		runs.whole[i] = bench_now_ns() - run.posted_ns;
		if (run.first_call_ns != 0)
			runs.first_call[runs.n_calls++] = run.first_call_ns - run.posted_ns;
		if (!run.finished)
			runs.bad++;
	}
	http_reader_fini(&r);
	close(fd);
	return NULL;
}

static void run_runs(char **argv)
{
	AUTO_STR body = bench_slurp(argv[0]);
	size_t connections = (size_t)bench_number("CONNECTIONS", argv[1]), n;
	int64_t from;
	double took;

	runs.count = bench_number("COUNT", argv[2]);
	n = (size_t)runs.count;
	runs.post = request("POST", "/v1/agents", body);
	runs.created = mem_zalloc(n * sizeof *runs.created);
	runs.first_call = mem_zalloc(n * sizeof *runs.first_call);
	runs.whole = mem_zalloc(n * sizeof *runs.whole);
	from = bench_now_ns();
	in_threads(connections, runs_thread, NULL);
	took = (double)(bench_now_ns() - from) / 1e9;
	printf("{\"count\":%zu,\"bad\":%lld,\"seconds\":%.4f,\"per_s\":%.1f,\"client_cpu_s\":%.3f,", n,
	    (long long)runs.bad, took, (double)n / took, (double)bench_cpu_ns() / 1e9);
	bench_print("created", runs.created, n);
	putchar(',');
	bench_print("first_call", runs.first_call, runs.n_calls);
	putchar(',');
	bench_print("whole", runs.whole, n);
	puts("}");
	free(runs.post);
	free(runs.created);
	free(runs.first_call);
	free(runs.whole);
}

/* readers */

/* The k-th frame with an id of one run: when the first and the last reader got it, and how many did. */
struct frame_seen {
	int64_t first_ns, last_ns;
	unsigned readers;
};

struct watched {
	struct frame_seen *frame;
	size_t n_frames;
	unsigned readers;
};

struct reader {
	int fd;
	struct http_reader http;
	struct watched *run;
	size_t at; /* frames with an id so far */
	bool listening; /* the first call runs, so the stream is live */
};

static struct {
	int64_t now_ns; /* of the bytes that are being read */
	int64_t go_ns, last_ns;
	uint64_t delivered;
	size_t listening;
} live;

static void on_reader_line(void *ctx, const char *line, size_t len)
{
	struct reader *r = ctx;
	struct frame_seen *f;

	if (!r->listening && text_has_prefix(line, "event: tool_call")) {
		r->listening = true;
		live.listening++;
	}
	if (!text_has_prefix(line, "id: "))
		return;
	if (r->at == MAX_EVENTS)
		bench_die("a run has more than %d events", MAX_EVENTS);
	f = &r->run->frame[r->at++];
	r->run->n_frames = MAX(r->run->n_frames, r->at);
	if (live.go_ns == 0)
		return; /* what was there before the race began */
	if (f->readers++ == 0)
		f->first_ns = live.now_ns;
	f->last_ns = live.last_ns = live.now_ns;
	live.delivered++;
}

static void open_reader(int ep, struct reader *r, const struct one_run *run, struct watched *watched)
{
	AUTO_STR get = stream_request(run);
	struct epoll_event e = {.events = EPOLLIN, .data.ptr = r};

	r->fd = http_connect(port);
	r->run = watched;
	watched->readers++;
	http_reader_init(&r->http, on_reader_line, r);
	http_send_all(r->fd, get, strlen(get));
	epoll_ctl(ep, EPOLL_CTL_ADD, r->fd, &e);
}

/* False once its stream has ended. */
static bool read_some(int ep, struct reader *r)
{
	char buf[64 * 1024];
	ssize_t n = recv(r->fd, buf, sizeof buf, MSG_DONTWAIT);

	if (n < 0 && errno == EAGAIN)
		return true;
	if (n <= 0)
		bench_die("a stream was cut (status %d)", r->http.status);
	live.now_ns = bench_now_ns();
	IGNORE(http_reader_feed(&r->http, buf, (size_t)n));
	if (r->http.status != 200 && r->http.status != 0)
		bench_die("a stream answered %d", r->http.status);
	if (!r->http.done)
		return true;
	epoll_ctl(ep, EPOLL_CTL_DEL, r->fd, NULL);
	close(r->fd);
	return false;
}

/* A file would not do: what a session has looked for and not found may stay unseen in its view of the machine. */
static void let_go(const char *at)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
	    .sin_port = htons((uint16_t)bench_number("GO", at)),
	    .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || listen(fd, 64) != 0)
		bench_die("cannot listen on port %s: %s", at, strerror(errno));
	live.go_ns = bench_now_ns(); /* the socket stays to the end */
}

static void watch_all(int ep, size_t n, const char *go)
{
	struct epoll_event e[64];
	size_t open = n;

	while (open > 0) {
		int got = epoll_wait(ep, e, ARRAY_LEN(e), 60000);

		if (got == 0)
			bench_die("nothing came for a minute; %zu of %zu listen", live.listening, n);
		for (int i = 0; i < got; i++)
			open -= !read_some(ep, e[i].data.ptr);
		if (live.go_ns == 0 && live.listening == n)
			let_go(go);
	}
}

static void print_lags(const struct watched *watched, size_t n_runs)
{
	int64_t *lag = mem_alloc((n_runs * MAX_EVENTS) * sizeof *lag);
	size_t n = 0;

	for (size_t i = 0; i < n_runs; i++)
		for (size_t k = 0; k < watched[i].n_frames; k++)
			if (watched[i].frame[k].readers == watched[i].readers)
				lag[n++] = watched[i].frame[k].last_ns - watched[i].frame[k].first_ns;
	bench_print("lag", lag, n);
	free(lag);
}

static void run_readers(char **argv)
{
	AUTO_STR body = bench_slurp(argv[0]);
	AUTO_STR post = request("POST", "/v1/agents", body);
	size_t n_runs = (size_t)bench_number("RUNS", argv[1]), n = (size_t)bench_number("READERS", argv[2]);
	struct one_run *run = mem_zalloc(n_runs * sizeof *run);
	struct watched *watched = mem_zalloc(n_runs * sizeof *watched);
	struct reader *reader = mem_zalloc(n * sizeof *reader);
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = http_connect(port);
	struct http_reader r;
	double took;
	int64_t cpu_ns;

	http_reader_init(&r, NULL, NULL);
	for (size_t i = 0; i < n_runs; i++) {
		create(fd, &r, &run[i], post, strlen(post));
		watched[i].frame = mem_zalloc(MAX_EVENTS * sizeof *watched[i].frame);
	}
	for (size_t i = 0; i < n; i++)
		open_reader(ep, &reader[i], &run[i % n_runs], &watched[i % n_runs]);
	cpu_ns = bench_cpu_ns();
	watch_all(ep, n, argv[3]);
	took = (double)(live.last_ns - live.go_ns) / 1e9;
	printf("{\"delivered\":%llu,\"seconds\":%.3f,\"per_s\":%.0f,\"client_cpu_s\":%.3f,",
	    (unsigned long long)live.delivered, took, (double)live.delivered / took,
	    (double)(bench_cpu_ns() - cpu_ns) / 1e9);
	print_lags(watched, n_runs);
	puts("}");
}

/* waiting */

static size_t told; /* readers that have their first frame */

static void on_waiting_line(void *ctx, const char *line, size_t len)
{
	struct reader *r = ctx;

	if (!r->listening && text_has_prefix(line, "event: status")) {
		r->listening = true;
		told++;
	}
}

/* Seconds of CPU of another process. */
static double cpu_of(const char *pid)
{
	AUTO_STR path = str_printf("/proc/%s/stat", pid);
	AUTO_STR text = bench_slurp(path);
	const char *at = strrchr(text, ')');
	unsigned long long user = 0, system = 0;

	if (at == NULL || sscanf(at + 1, " %*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %llu %llu", &user, &system) != 2)
		bench_die("%s cannot be understood", path);
	return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Reads what comes until that time, or until all readers were told. */
static void read_waiting(int ep, int64_t until_ns, size_t enough)
{
	struct epoll_event e[64];

	while (bench_now_ns() < until_ns && told < enough) {
		int got = epoll_wait(ep, e, ARRAY_LEN(e), 100);

		for (int i = 0; i < got; i++)
			if (!read_some(ep, e[i].data.ptr))
				bench_die("a stream ended");
	}
}

#define SETTLE_NS ((int64_t)3 * 1000000000)

static void run_waiting(char **argv)
{
	AUTO_STR body = bench_slurp(argv[0]);
	AUTO_STR post = request("POST", "/v1/agents", body);
	size_t n = (size_t)bench_number("RUNS", argv[1]);
	int64_t span_ns = bench_number("SECONDS", argv[3]) * 1000000000;
	struct reader *reader = mem_zalloc(n * sizeof *reader);
	struct watched watched = {0};
	int ep = epoll_create1(EPOLL_CLOEXEC), fd = http_connect(port);
	struct http_reader r;
	double before;
	int64_t from;

	http_reader_init(&r, NULL, NULL);
	for (size_t i = 0; i < n; i++) {
		struct one_run run;

		create(fd, &r, &run, post, strlen(post));
		open_reader(ep, &reader[i], &run, &watched);
		reader[i].http.on_line = on_waiting_line;
	}
	read_waiting(ep, bench_now_ns() + (int64_t)120 * 1000000000, n);
	if (told < n)
		bench_die("only %zu of %zu readers were told anything", told, n);
	read_waiting(ep, bench_now_ns() + SETTLE_NS, SIZE_MAX);
	before = cpu_of(argv[2]);
	from = bench_now_ns();
	read_waiting(ep, from + span_ns, SIZE_MAX);
	printf("{\"readers\":%zu,\"core_percent\":%.2f}\n", n,
	    100 * (cpu_of(argv[2]) - before) / ((double)(bench_now_ns() - from) / 1e9));
}

int main(int argc, char **argv)
{
	const char *what = argc > 3 ? argv[1] : "";

	if (argc > 3) {
		port = (uint16_t)bench_number("PORT", argv[2]);
		key = argv[3];
	}
	if (strcmp(what, "requests") == 0 && argc == 9)
		run_requests(argv + 4);
	else if (strcmp(what, "whole") == 0 && argc == 5)
		run_whole(argv + 4);
	else if (strcmp(what, "runs") == 0 && argc == 7)
		run_runs(argv + 4);
	else if (strcmp(what, "each") == 0 && argc == 6)
		run_each(argv + 4);
	else if (strcmp(what, "readers") == 0 && argc == 8)
		run_readers(argv + 4);
	else if (strcmp(what, "waiting") == 0 && argc == 8)
		run_waiting(argv + 4);
	else
		bench_die("see the head of bench/load.c");
	return 0;
}
