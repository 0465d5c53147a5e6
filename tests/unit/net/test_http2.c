/* HTTP/2: the server with libcurl and with our own stream client, and what only HTTP/2 has. */
#include "net/grpc.h"
#include "net/h2_stream.h"
#include "net/http_client.h"
#include "server_fixture.h"
#include <arpa/inet.h>
#include <curl/curl.h>
#include <netinet/in.h>
#include <sched.h>
#include <unistd.h>

static struct fixture *f;

static int set_up(void **state)
{
	f = fixture_new(NULL);
	return 0;
}

static int tear_down(void **state)
{
	fixture_free(&f);
	return 0;
}

static size_t collect(char *bytes, size_t size, size_t n, void *ctx)
{
	return strbuf_add(ctx, bytes, size * n) == OK ? size * n : 0;
}

static CURL *curl_for(const char *path, struct strbuf *head, struct strbuf *body)
{
	CURL *e = curl_easy_init();
	AUTO_STR url = str_printf("http://127.0.0.1:%u%s", f->port, path);

	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, collect);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, body);
	curl_easy_setopt(e, CURLOPT_HEADERFUNCTION, collect);
	curl_easy_setopt(e, CURLOPT_HEADERDATA, head);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, 20000L);
	curl_easy_setopt(e, CURLOPT_NOPROXY, "*");
	return e;
}

static void curl_gets_answers(void **state)
{
	AUTO_FINI(strbuf) head = STRBUF(65536);
	AUTO_FINI(strbuf) body = STRBUF((size_t)8 << 20);
	AUTO_FINI(strbuf) want = STRBUF(256);

	/* A new handle each time: curl 7.88 fails when it reuses a prior-knowledge connection. */
	for (int i = 0; i < 3; i++) {
		CURL *e = curl_for("/p/a?q=1", &head, &body);

		strbuf_clear(&body);
		strbuf_clear(&head);
		assert_int_equal(curl_easy_perform(e), CURLE_OK);
		assert_non_null(strstr(head.data, "HTTP/2 200"));
		assert_non_null(strstr(head.data, "content-type: text/plain\r\n"));
		strbuf_clear(&want);
		strbuf_addf(&want, "GET\n/p/a\nq=1\n127.0.0.1:%u\n", f->port);
		assert_string_equal(body.data, want.data);
		curl_easy_cleanup(e);
	}
}

static void curl_posts_and_reads_large_bodies(void **state)
{
	AUTO_FINI(strbuf) head = STRBUF(65536);
	AUTO_FINI(strbuf) body = STRBUF((size_t)8 << 20);
	AUTO_STR data = mem_alloc(1 << 20);
	long status = 0;
	CURL *e = curl_for("/post", &head, &body);

	for (size_t i = 0; i < 1 << 20; i++)
		data[i] = (char)('a' + i % 26);
	curl_easy_setopt(e, CURLOPT_POSTFIELDS, data);
	curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, 1L << 20);
	assert_int_equal(curl_easy_perform(e), CURLE_OK);
	assert_true(body.len > 1 << 20);
	assert_memory_equal(body.data + body.len - (1 << 20), data, 1 << 20);
	strbuf_clear(&body);
	curl_easy_cleanup(e);
	e = curl_for("/small", &head, &body);
	curl_easy_setopt(e, CURLOPT_POSTFIELDS, "12345678901");
	assert_int_equal(curl_easy_perform(e), CURLE_OK);
	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	assert_int_equal(status, 413);
	assert_int_equal(atomic_load(&f->too_large), 1);
	curl_easy_cleanup(e);
}

static void head_and_trailers(void **state)
{
	AUTO_FINI(strbuf) head = STRBUF(65536);
	AUTO_FINI(strbuf) body = STRBUF((size_t)8 << 20);
	CURL *e = curl_for("/pieces", &head, &body);

	assert_int_equal(curl_easy_perform(e), CURLE_OK);
	assert_string_equal(body.data, "one,two,three");
	assert_non_null(strstr(head.data, "x-sum: 3\r\n"));
	strbuf_clear(&body);
	curl_easy_cleanup(e);
	e = curl_for("/pieces", &head, &body);
	curl_easy_setopt(e, CURLOPT_NOBODY, 1L);
	assert_int_equal(curl_easy_perform(e), CURLE_OK);
	assert_int_equal(body.len, 0);
	curl_easy_cleanup(e);
}

static void a_large_head_is_refused(void **state)
{
	AUTO_FINI(strbuf) head = STRBUF(65536);
	AUTO_FINI(strbuf) body = STRBUF(65536);
	CURL *e = curl_for("/x", &head, &body);
	struct curl_slist *list = NULL;
	AUTO_STR value = mem_alloc(20001);
	AUTO_STR line = NULL;
	long status = 0;

	memset(value, 'v', 20000);
	value[20000] = '\0';
	line = str_printf("a: %s", value);
	list = curl_slist_append(list, line);
	list = curl_slist_append(list, line);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, list);
	assert_int_equal(curl_easy_perform(e), CURLE_OK);
	curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status);
	assert_int_equal(status, 431);
	assert_non_null(strstr(body.data, "validation_error"));
	curl_slist_free_all(list);
	curl_easy_cleanup(e);
}

static void the_preface_may_come_in_bytes(void **state)
{
	static const char start[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"; /* and SETTINGS */
	int fd = raw_connect(f);
	unsigned char got[9];

	for (size_t i = 0; i < sizeof(start) - 1; i++)
		raw_send(fd, start + i, 1);
	for (size_t n = 0; n < sizeof(got);) {
		ssize_t r = read(fd, got + n, sizeof(got) - n);

		assert_true(r > 0);
		n += (size_t)r;
	}
	assert_int_equal(got[3], 4); /* SETTINGS */
	close(fd);
}

/* One h2_stream on a loop of its own. */
struct client {
	uv_loop_t loop;
	uv_timer_t alarm;
	struct h2_stream *s;
	struct h2_close why;
	int opens, closes, drains;
	size_t to_send, sent, received;
	size_t close_after; /* bytes received; 0: never */
	bool wrong;
	void (*on_open)(struct client *c);
};

static void client_pump(struct client *c)
{
	unsigned char piece[10007];

	while (c->sent < c->to_send && h2_stream_unsent(c->s) < (size_t)1 << 20) {
		size_t n = MIN(sizeof(piece), c->to_send - c->sent);

		for (size_t i = 0; i < n; i++)
			piece[i] = (unsigned char)((c->sent + i) * 31 >> 3);
		assert_int_equal(h2_stream_write(c->s, piece, n), OK);
		c->sent += n;
	}
}

static void client_open(void *ctx)
{
	struct client *c = ctx;

	c->opens++;
	if (c->on_open != NULL)
		c->on_open(c);
	client_pump(c);
}

static void client_drain(void *ctx)
{
	struct client *c = ctx;

	c->drains++;
	client_pump(c);
}

static void client_data(void *ctx, const void *bytes, size_t len)
{
	struct client *c = ctx;

	for (size_t i = 0; i < len; i++)
		if (((const unsigned char *)bytes)[i] != (unsigned char)((c->received + i) * 31 >> 3))
			c->wrong = true;
	c->received += len;
	if (c->close_after > 0 && c->received >= c->close_after)
		h2_stream_close(c->s);
}

static void client_closed(void *ctx, const struct h2_close *why)
{
	struct client *c = ctx;

	c->closes++;
	c->why = *why;
	c->s = NULL;
	uv_close((uv_handle_t *)&c->alarm, NULL);
}

static void on_alarm(uv_timer_t *t)
{
	fail_msg("the stream did not end in time");
}

static void client_dial(struct client *c, const char *url)
{
	const struct http_header headers[] = {{"content-type", "application/grpc"}, {"te", "trailers"}};
	const struct h2_stream_config cfg = {.url = url,
	    .headers = headers,
	    .n_headers = 2,
	    .ctx = c,
	    .on_open = client_open,
	    .on_data = client_data,
	    .on_drain = client_drain,
	    .on_close = client_closed};

	assert_int_equal(uv_loop_init(&c->loop), 0);
	uv_timer_init(&c->loop, &c->alarm);
	uv_timer_start(&c->alarm, on_alarm, 30000, 0);
	assert_int_equal(h2_stream_dial(&c->loop, &cfg, &c->s), OK);
}

static void client_run(struct client *c)
{
	uv_run(&c->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&c->loop), 0);
	assert_int_equal(c->closes, 1);
}

static char *url_of(const char *path)
{
	return str_printf("http://127.0.0.1:%u%s", f->port, path);
}

static void a_stream_echoes_megabytes_in_order(void **state)
{
	const size_t size = (size_t)8 << 20;
	struct client c = {.to_send = size, .close_after = size};
	AUTO_STR url = url_of("/stream/echo");

	client_dial(&c, url);
	client_run(&c);
	assert_int_equal(c.opens, 1);
	assert_false(c.wrong);
	assert_int_equal(c.sent, size);
	assert_int_equal(c.received, size);
	assert_true(c.drains > 0);
	assert_int_equal(c.why.kind, H2_CLOSE_LOCAL);
	wait_for(&f->closes, 1);
	assert_int_equal(atomic_load(&f->streamed), size);
}

static void write_and_close(struct client *c)
{
	c->to_send = 1000;
	client_pump(c);
	h2_stream_close(c->s);
}

static void close_flushes_what_was_written(void **state)
{
	struct client c = {.on_open = write_and_close};
	AUTO_STR url = url_of("/stream/echo");

	client_dial(&c, url);
	client_run(&c);
	assert_int_equal(c.why.kind, H2_CLOSE_LOCAL);
	wait_for(&f->closes, 1);
	assert_int_equal(atomic_load(&f->streamed), 1000);
}

/* The server holds the body back: the client must stop at the window and hear on_drain later. */
static void back_pressure_reaches_the_client(void **state)
{
	const size_t size = (size_t)4 << 20;
	struct client c = {.to_send = size};
	AUTO_STR url = url_of("/stream/paused");

	client_dial(&c, url);
	while (atomic_load(&f->held) == NULL || c.sent < size / 8) {
		uv_run(&c.loop, UV_RUN_NOWAIT);
		sched_yield();
	}
	for (int i = 0; i < 2000; i++)
		uv_run(&c.loop, UV_RUN_NOWAIT);
	assert_true(c.sent < size / 2);
	assert_true(h2_stream_unsent(c.s) > 65536);
	assert_int_equal(atomic_load(&f->streamed), 0);
	http_pause(f->held, false);
	while (atomic_load(&f->streamed) < size) {
		uv_run(&c.loop, UV_RUN_NOWAIT);
		sched_yield();
	}
	assert_true(c.drains > 0);
	h2_stream_close(c.s);
	client_run(&c);
}

static void status_comes_from_trailers(void **state)
{
	const struct http_header trailers[] = {{"grpc-status", "8"}, {"grpc-message", "too%20many %E2%9C%93"}};
	struct client c = {.to_send = 10};
	AUTO_STR url = url_of("/stream/paused");

	client_dial(&c, url);
	while (atomic_load(&f->held) == NULL)
		uv_run(&c.loop, UV_RUN_NOWAIT);
	assert_int_equal(http_start(f->held, 200, NULL, 0), OK);
	assert_int_equal(http_end(f->held, trailers, 2), OK);
	client_run(&c);
	assert_int_equal(c.why.kind, H2_CLOSE_STATUS);
	assert_int_equal(c.why.http_status, 200);
	assert_int_equal(c.why.grpc_status, 8);
	assert_string_equal(c.why.text, "too many ✓");
}

static void status_comes_from_headers_alone(void **state)
{
	const struct http_header headers[] = {{"grpc-status", "16"}, {"grpc-message", "who%3F"}};
	struct client c = {.to_send = 10};
	AUTO_STR url = url_of("/stream/paused");

	client_dial(&c, url);
	while (atomic_load(&f->held) == NULL)
		uv_run(&c.loop, UV_RUN_NOWAIT);
	assert_int_equal(http_reply(f->held, 200, headers, 2, NULL, 0), OK);
	client_run(&c);
	assert_int_equal(c.why.kind, H2_CLOSE_STATUS);
	assert_int_equal(c.why.grpc_status, 16);
	assert_string_equal(c.why.text, "who?");
	wait_for(&f->closes, 1);
}

static void a_reset_is_told(void **state)
{
	struct client c = {.to_send = 10};
	AUTO_STR url = url_of("/stream/paused");

	client_dial(&c, url);
	while (atomic_load(&f->held) == NULL)
		uv_run(&c.loop, UV_RUN_NOWAIT);
	http_abort(f->held);
	client_run(&c);
	assert_int_equal(c.why.kind, H2_CLOSE_RESET);
	assert_int_equal(c.why.grpc_status, -1);
	wait_for(&f->closes, 1);
}

static void the_stream_lives_through_a_drain(void **state)
{
	struct client c = {.to_send = 1000, .close_after = 1000};
	AUTO_STR url = url_of("/stream/echo");

	c.close_after = 2000;
	client_dial(&c, url);
	while (c.received < 1000)
		uv_run(&c.loop, UV_RUN_ONCE);
	http_server_drain(f->server);
	h2_stream_ping(c.s);
	c.to_send = 2000;
	client_pump(&c);
	client_run(&c);
	assert_false(c.wrong);
	assert_int_equal(c.received, 2000);
	assert_int_equal(c.why.kind, H2_CLOSE_LOCAL);
}

static void the_end_of_the_server_is_told(void **state)
{
	struct client c = {.to_send = 1000};
	AUTO_STR url = url_of("/stream/echo");

	client_dial(&c, url);
	while (c.received < 1000)
		uv_run(&c.loop, UV_RUN_ONCE);
	http_server_free(&f->server);
	client_run(&c);
	assert_true(c.why.kind == H2_CLOSE_GOAWAY || c.why.kind == H2_CLOSE_IO);
	assert_int_equal(atomic_load(&f->closes), 1);
}

static void no_connection_is_told(void **state)
{
	struct client c = {0};
	AUTO_STR url = url_of("/");
	AUTO_STR want =
	    str_printf("cannot connect to 127.0.0.1:%u: Connection refused: is the server running there?", f->port);

	http_server_free(&f->server);
	client_dial(&c, url);
	client_run(&c);
	assert_int_equal(c.opens, 0);
	assert_int_equal(c.why.kind, H2_CLOSE_CONNECT);
	assert_string_equal(c.why.text, want);
}

static void close_while_dialling_is_told(void **state)
{
	struct client c = {0};
	AUTO_STR url = url_of("/");

	client_dial(&c, url);
	h2_stream_close(c.s);
	client_run(&c);
	assert_int_equal(c.opens, 0);
	assert_int_equal(c.why.kind, H2_CLOSE_LOCAL);
}

static void a_lost_ping_is_told(void **state)
{
	/* A listener that never answers anything. */
	struct client c = {0};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	AUTO_STR url = NULL;

	assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&a, &len), 0);
	url = str_printf("http://127.0.0.1:%u/", ntohs(a.sin_port));
	client_dial(&c, url);
	while (c.opens == 0)
		uv_run(&c.loop, UV_RUN_ONCE);
	h2_stream_ping(c.s);
	assert_int_equal(c.closes, 0);
	h2_stream_ping(c.s);
	assert_int_equal(c.closes, 0); /* never inside a call */
	client_run(&c);
	assert_int_equal(c.why.kind, H2_CLOSE_IO);
	close(fd);
}

static void deadlines_are_kept(void **state)
{
	struct http_server_config cfg = {.head_timeout_ms = 200, .idle_timeout_ms = 200, .body_timeout_ms = 200};
	static const char head_only[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0"
					"\0\0\1\1\0\0\0\0\1\202"; /* HEADERS without END_HEADERS */
	struct client c = {.to_send = 10};
	AUTO_STR url = NULL;
	AUTO_STR half = NULL;
	int fd;

	fixture_free(&f);
	f = fixture_new(&cfg);
	url = url_of("/whole");
	client_dial(&c, url);
	client_run(&c);
	assert_int_equal(c.why.kind, H2_CLOSE_RESET);
	fd = raw_connect(f);
	raw_send(fd, head_only, sizeof(head_only) - 1);
	half = raw_read_all(fd);
	close(fd);
	/* A stream that is answered outlives them all. */
	str_free(&url);
	url = url_of("/stream/echo");
	c = (struct client){.to_send = 10};
	client_dial(&c, url);
	for (int64_t until = clock_mono_ms() + 700; clock_mono_ms() < until;)
		uv_run(&c.loop, UV_RUN_NOWAIT);
	assert_int_equal(c.closes, 0);
	h2_stream_close(c.s);
	client_run(&c);
}

/* An answer before the end of an upload: the client hears it, and the exchange ends. */
static void an_early_answer_arrives(void **state)
{
	struct client c = {.to_send = (size_t)2 << 20};
	AUTO_STR url = url_of("/stream/refuse");

	client_dial(&c, url);
	client_run(&c);
	assert_int_equal(c.why.kind, H2_CLOSE_STATUS);
	assert_int_equal(c.why.http_status, 403);
	wait_for(&f->closes, 1);
}

static void bad_addresses_are_refused(void **state)
{
	uv_loop_t loop;
	struct h2_stream *s = NULL;

	uv_loop_init(&loop);
	assert_int_equal(h2_stream_dial(&loop, &(struct h2_stream_config){.url = "ftp://x/"}, &s), ERR_INVALID);
	assert_int_equal(h2_stream_dial(&loop, &(struct h2_stream_config){.url = ":::"}, &s), ERR_INVALID);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(curl_gets_answers),
	    T(curl_posts_and_reads_large_bodies),
	    T(head_and_trailers),
	    T(a_large_head_is_refused),
	    T(the_preface_may_come_in_bytes),
	    T(a_stream_echoes_megabytes_in_order),
	    T(close_flushes_what_was_written),
	    T(back_pressure_reaches_the_client),
	    T(status_comes_from_trailers),
	    T(status_comes_from_headers_alone),
	    T(a_reset_is_told),
	    T(the_stream_lives_through_a_drain),
	    T(the_end_of_the_server_is_told),
	    T(no_connection_is_told),
	    T(close_while_dialling_is_told),
	    T(a_lost_ping_is_told),
	    T(deadlines_are_kept),
	    T(an_early_answer_arrives),
	    T(bad_addresses_are_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
