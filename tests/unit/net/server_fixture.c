#include "server_fixture.h"
#include "base/strbuf.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE_MS 10000
#define ECHO_HIGH ((size_t)256 * 1024)

static void on_head(void *ctx, struct http_exchange *x, struct http_plan *plan)
{
	if (strncmp(http_path(x), "/stream/", 8) == 0)
		plan->mode = HTTP_BODY_STREAM;
	else if (strcmp(http_path(x), "/small") == 0)
		plan->max_body = 10;
}

static void echo_data(void *ctx, struct http_exchange *x, const void *bytes, size_t len)
{
	struct fixture *f = ctx;

	atomic_fetch_add(&f->streamed, len);
	IGNORE(http_write(x, bytes, len));
	if (http_unsent(x) > ECHO_HIGH)
		http_pause(x, true);
}

static void count_data(void *ctx, struct http_exchange *x, const void *bytes, size_t len)
{
	struct fixture *f = ctx;

	atomic_fetch_add(&f->streamed, len);
}

static void echo_end(void *ctx, struct http_exchange *x)
{
	static const struct http_header trailers[] = {{"grpc-status", "0"}, {"grpc-message", "all%20good"}};

	IGNORE(http_end(x, trailers, 2));
}

static void count_and_pause(void *ctx, struct http_exchange *x, const void *bytes, size_t len)
{
	http_pause(x, true);
	count_data(ctx, x, bytes, len);
}

static void count_end(void *ctx, struct http_exchange *x)
{
	struct fixture *f = ctx;
	char text[32];
	int n = snprintf(text, sizeof(text), "%zu", atomic_load(&f->streamed));

	IGNORE(http_reply(x, 200, NULL, 0, text, (size_t)n));
}

static void resume_reading(void *ctx, struct http_exchange *x)
{
	struct fixture *f = ctx;

	atomic_fetch_add(&f->drains, 1);
	http_pause(x, false);
}

static void note_close(void *ctx, struct http_exchange *x)
{
	struct fixture *f = ctx;

	atomic_fetch_add(&f->closes, 1);
}

/* Pool thread: method, path, query, host and body, one a line. */
static void describe(void *arg)
{
	struct http_exchange *x = arg;
	static const struct http_header type = {"content-type", "text/plain"};
	AUTO_FINI(strbuf) b = STRBUF(4 * 1024 * 1024);
	const char *host = http_header_get(x, "host");
	size_t len;
	const char *body = http_body(x, &len);

	strbuf_addf(&b, "%s\n%s\n%s\n%s\n", http_method(x), http_path(x), http_query(x), host != NULL ? host : "-");
	strbuf_add(&b, body, len);
	IGNORE(http_reply(x, 200, &type, 1, b.data, b.len));
	http_exchange_free(&x);
}

/* Pool thread: three pieces and a trailer. */
static void stream_pieces(void *arg)
{
	struct http_exchange *x = arg;
	static const struct http_header trailer = {"x-sum", "3"};

	IGNORE(http_start(x, 200, NULL, 0));
	IGNORE(http_write(x, "one,", 4));
	IGNORE(http_write(x, "two,", 4));
	IGNORE(http_write(x, "three", 5));
	IGNORE(http_end(x, &trailer, 1));
	http_exchange_free(&x);
}

static void start_echo(struct http_exchange *x)
{
	static const struct http_header type = {"content-type", "application/grpc"};

	IGNORE(http_start(x, 200, &type, 1));
}

static void start_events(struct http_exchange *x)
{
	static const struct http_header type = {"content-type", "text/event-stream"};

	IGNORE(http_start(x, 200, &type, 1));
	IGNORE(http_write(x, "data: 1\n\n", 9));
}

static void watch(struct fixture *f, struct http_exchange *x, const struct http_watch *w)
{
	atomic_fetch_add(&f->watches, 1);
	http_watch(x, w);
}

static void on_request(void *ctx, struct http_exchange *x)
{
	struct fixture *f = ctx;
	const char *path = http_path(x);
	struct http_watch w = {.on_close = note_close, .ctx = f};

	atomic_fetch_add(&f->requests, 1);
	if (strcmp(path, "/stream/echo") == 0) {
		w.on_data = echo_data;
		w.on_end = echo_end;
		w.on_drain = resume_reading;
		watch(f, x, &w);
		start_echo(x);
	} else if (strcmp(path, "/stream/count") == 0) {
		w.on_data = count_data;
		w.on_end = count_end;
		watch(f, x, &w);
	} else if (strcmp(path, "/stream/gulps") == 0) {
		w.on_data = count_and_pause;
		w.on_end = count_end;
		watch(f, x, &w);
		atomic_store(&f->held, http_exchange_ref(x));
	} else if (strcmp(path, "/stream/refuse") == 0) {
		watch(f, x, &w);
		IGNORE(http_reply(x, 403, NULL, 0, "no", 2));
	} else if (strcmp(path, "/stream/paused") == 0) {
		w.on_data = count_data;
		w.on_end = count_end;
		watch(f, x, &w);
		http_pause(x, true);
		atomic_store(&f->held, http_exchange_ref(x));
	} else if (strcmp(path, "/events") == 0) {
		watch(f, x, &w);
		start_events(x);
	} else if (strcmp(path, "/hold") == 0) {
		watch(f, x, &w);
		atomic_store(&f->held, http_exchange_ref(x));
	} else if (strcmp(path, "/pieces") == 0) {
		assert_int_equal(pool_submit(f->pool, stream_pieces, http_exchange_ref(x)), OK);
	} else {
		assert_int_equal(pool_submit(f->pool, describe, http_exchange_ref(x)), OK);
	}
}

static void on_too_large(void *ctx, struct http_exchange *x)
{
	struct fixture *f = ctx;

	atomic_fetch_add(&f->too_large, 1);
	IGNORE(http_reply(x, 413, NULL, 0, "too large", 9));
}

struct fixture *fixture_new(const struct http_server_config *overrides)
{
	struct fixture *f = NEW(struct fixture);
	struct http_server_config cfg = overrides != NULL ? *overrides : (struct http_server_config){0};
	struct why why = {""};

	cfg.host = "127.0.0.1";
	cfg.loops = 2;
	cfg.callbacks = (struct http_callbacks){
	    .ctx = f, .on_head = on_head, .on_request = on_request, .on_too_large = on_too_large};
	f->pool = pool_new("handlers", 2, 10000);
	if (http_server_start(&cfg, &f->server, &why) != OK)
		fail_msg("%s", why.text);
	f->port = http_server_port(f->server);
	return f;
}

void fixture_free(struct fixture **fp)
{
	struct fixture *f = TAKE(*fp);
	struct http_exchange *x;

	if (f == NULL)
		return;
	x = atomic_load(&f->held);
	http_server_free(&f->server);
	pool_free(&f->pool);
	assert_int_equal(atomic_load(&f->closes), atomic_load(&f->watches));
	/* After the server: an exchange may outlive it. */
	if (x != NULL)
		assert_int_equal(http_reply(x, 200, NULL, 0, "", 0), ERR_CLOSED);
	http_exchange_free(&x);
	free(f);
}

static void pause_ms(long ms)
{
	nanosleep(&(struct timespec){.tv_nsec = ms * 1000000}, NULL); /* the interval of polling */
}

void wait_for(atomic_int *counter, int want)
{
	int64_t until = clock_mono_ms() + PATIENCE_MS;

	while (atomic_load(counter) < want) {
		if (clock_mono_ms() > until)
			fail_msg("waited for %d, have %d", want, atomic_load(counter));
		pause_ms(1);
	}
}

void wait_for_size(atomic_size_t *counter, size_t want)
{
	int64_t until = clock_mono_ms() + PATIENCE_MS;

	while (atomic_load(counter) < want) {
		if (clock_mono_ms() > until)
			fail_msg("waited for %zu, have %zu", want, atomic_load(counter));
		pause_ms(1);
	}
}

int raw_connect(const struct fixture *f)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(f->port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	return fd;
}

void raw_send(int fd, const void *bytes, size_t len)
{
	size_t at = 0;

	while (at < len) {
		ssize_t n = send(fd, (const char *)bytes + at, len - at, MSG_NOSIGNAL);

		if (n <= 0)
			return; /* the answer tells why */
		at += (size_t)n;
	}
}

void raw_sends(int fd, const char *text)
{
	raw_send(fd, text, strlen(text));
}

char *raw_read(int fd, const char *until)
{
	struct strbuf b = STRBUF((size_t)64 * 1024 * 1024);
	int64_t deadline = clock_mono_ms() + PATIENCE_MS;
	char buf[16384];

	while (until == NULL || b.data == NULL || strstr(b.data, until) == NULL) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		ssize_t n;

		if (poll(&p, 1, (int)MAX(deadline - clock_mono_ms(), 0)) <= 0)
			fail_msg("no more within the deadline; so far: %s", strbuf_str(&b));
		n = recv(fd, buf, sizeof(buf), 0);
		if (n <= 0)
			break;
		strbuf_add(&b, buf, (size_t)n);
	}
	return strbuf_take(&b);
}

char *raw_read_all(int fd)
{
	return raw_read(fd, NULL);
}

char *raw_talk(const struct fixture *f, const char *request)
{
	int fd = raw_connect(f);
	char *answer;

	raw_sends(fd, request);
	answer = raw_read_all(fd);
	close(fd);
	return answer;
}
