/* HTTP/1.1 and what is common, over real sockets. */
#include "server_fixture.h"
#include <pthread.h>
#include <sched.h>
#include <sys/socket.h>
#include <unistd.h>

#define GET(path) "GET " path " HTTP/1.1\r\nhost: me\r\n\r\n"
#define GET_CLOSE(path) "GET " path " HTTP/1.1\r\nhost: me\r\nconnection: close\r\n\r\n"

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

static void assert_has(const char *text, const char *part)
{
	if (strstr(text, part) == NULL)
		fail_msg("\"%s\" is not in: %s", part, text);
}

static int count_of(const char *text, const char *part)
{
	int n = 0;

	for (const char *p = text; (p = strstr(p, part)) != NULL; p += strlen(part))
		n++;
	return n;
}

static void keeps_the_connection_for_more(void **state)
{
	int fd = raw_connect(f);

	for (int i = 0; i < 5; i++) {
		AUTO_STR a = NULL;

		raw_sends(fd, GET("/a?b=c?d"));
		a = raw_read(fd, "/a\nb=c?d\nme\n");
		assert_has(a, "HTTP/1.1 200 OK\r\n");
		assert_has(a, "content-type: text/plain\r\n");
	}
	close(fd);
	wait_for(&f->requests, 5);
}

static void answers_pipelined_requests_in_order(void **state)
{
	AUTO_STR a = raw_talk(f, GET("/1") GET("/2") GET("/pieces") GET_CLOSE("/3"));
	char *one = strstr(a, "\n/1\n"), *two = strstr(a, "\n/2\n"), *pieces = strstr(a, "three"),
	     *three = strstr(a, "\n/3\n");

	assert_non_null(one);
	assert_true(two > one && pieces > two && three > pieces);
}

static void takes_a_request_cut_anywhere(void **state)
{
	static const char request[] = "POST /cut?q=1 HTTP/1.1\r\nHost: me\r\nTransfer-Encoding: chunked\r\n"
				      "X-Any: a b\r\n\r\n5\r\nhello\r\n6;ext=1\r\n world\r\n0\r\nT: 1\r\n\r\n";
	int fd = raw_connect(f);

	for (size_t cut = 1; cut < sizeof(request) - 1; cut++) {
		AUTO_STR a = NULL;
		char *end;

		raw_send(fd, request, cut);
		/* A round trip on another connection of the server, so that the two parts are seen apart often. */
		if (cut % 8 == 0) {
			AUTO_STR other = raw_talk(f, GET_CLOSE("/x"));

			assert_has(other, "/x\n");
		}
		raw_send(fd, request + cut, sizeof(request) - 1 - cut);
		a = raw_read(fd, "hello world");
		end = strstr(a, "\r\n\r\n");
		assert_non_null(end);
		assert_string_equal(end + 4, "POST\n/cut\nq=1\nme\nhello world");
	}
	close(fd);
}

static void takes_single_bytes(void **state)
{
	/* Begins like the HTTP/2 preface, but is not. */
	static const char request[] =
	    "PROPFIND /p HTTP/1.1\r\nHost: me\r\nContent-Length: 3\r\nConnection: close\r\n\r\nxyz";
	int fd = raw_connect(f), one = 1;
	AUTO_STR a = NULL;

	setsockopt(fd, 6 /* TCP */, 1 /* NODELAY */, &one, sizeof(one));
	for (size_t i = 0; i < sizeof(request) - 1; i++)
		raw_send(fd, request + i, 1);
	a = raw_read_all(fd);
	assert_has(a, "PROPFIND\n/p\n\nme\nxyz");
	close(fd);
}

static void refuses(const char *request, const char *status, const char *words)
{
	AUTO_STR a = raw_talk(f, request);

	assert_has(a, status);
	assert_has(a, "content-type: application/json\r\n");
	assert_has(a, "connection: close\r\n");
	assert_has(a, "{\"error\":{\"code\":\"validation_error\",\"message\":\"");
	assert_has(a, words);
	assert_int_equal(count_of(a, "HTTP/1.1 4"), 1);
	assert_int_equal(count_of(a, "HTTP/1.1 2"), 0);
}

static void refuses_what_is_malformed(void **state)
{
	refuses("POST / HTTP/1.1\r\nhost: me\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n"
		"0\r\n\r\n" GET("/smuggled"),
	    "HTTP/1.1 400 Bad Request", "");
	refuses("POST / HTTP/1.1\r\nhost: me\r\ntransfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n"
		"0\r\n\r\n" GET("/smuggled"),
	    "HTTP/1.1 400", "");
	refuses(
	    "POST / HTTP/1.1\r\nhost: me\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd", "HTTP/1.1 400", "");
	refuses("POST / HTTP/1.1\r\nhost: me\r\ntransfer-encoding: gzip\r\n\r\n", "HTTP/1.1 400", "");
	refuses("GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400", "no Host header");
	refuses("GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", "HTTP/1.1 400", "more than one Host");
	refuses("nonsense\r\n\r\n", "HTTP/1.1 400", "malformed");
	refuses("GET /\r\n\r\n", "HTTP/1.1 400", "");
	refuses("GET / HTTP/1.1\r\nhost: me\r\nbad name: 1\r\n\r\n", "HTTP/1.1 400", "");
	refuses("GET / HTTP/1.1\r\nhost: me\r\na: b\001\r\n\r\n", "HTTP/1.1 400", "");
	refuses("CONNECT me:80 HTTP/1.1\r\nhost: me\r\n\r\n", "HTTP/1.1 400", "");
	refuses("GET nothing HTTP/1.1\r\nhost: me\r\n\r\n", "HTTP/1.1 400", "");
	refuses("PRI * HTTP/2.0\r\n\r\nXX", "HTTP/1.1 400", "");
	assert_int_equal(atomic_load(&f->requests), 0);
}

static void refuses_a_large_head(void **state)
{
	AUTO_FINI(strbuf) b = STRBUF(1 << 20);

	strbuf_adds(&b, "GET /");
	for (int i = 0; i < 33 * 1024; i++)
		strbuf_addc(&b, 'a');
	strbuf_adds(&b, " HTTP/1.1\r\nhost: me\r\n\r\n");
	refuses(b.data, "HTTP/1.1 431", "too large");
	strbuf_clear(&b);
	strbuf_adds(&b, "GET / HTTP/1.1\r\nhost: me\r\na:");
	for (int i = 0; i < 33 * 1024; i++)
		strbuf_addc(&b, ' ');
	strbuf_adds(&b, "b\r\n\r\n");
	refuses(b.data, "HTTP/1.1 431", "too large");
	strbuf_clear(&b);
	strbuf_adds(&b, "GET / HTTP/1.1\r\nhost: me\r\n");
	for (int i = 0; i < 100; i++)
		strbuf_addf(&b, "h%d: 1\r\n", i);
	strbuf_adds(&b, "\r\n");
	refuses(b.data, "HTTP/1.1 431", "too many headers");
}

static void absolute_form_is_reduced_to_its_path(void **state)
{
	AUTO_STR a = raw_talk(f, GET_CLOSE("http://me/deep/path?x=1"));
	AUTO_STR b = raw_talk(f, GET_CLOSE("http://me"));

	assert_has(a, "GET\n/deep/path\nx=1\nme\n");
	assert_has(b, "GET\n/\n\nme\n");
}

static void head_gets_no_body(void **state)
{
	AUTO_STR a = raw_talk(f, "HEAD /x HTTP/1.1\r\nhost: me\r\n\r\n"
				 "HEAD /pieces HTTP/1.1\r\nhost: me\r\n\r\n" GET_CLOSE("/after"));

	assert_has(a, "content-length: 12\r\n\r\nHTTP/1.1 200 OK");
	assert_int_equal(count_of(a, "one,"), 0);
	assert_has(a, "\n/after\n");
}

static void streams_in_chunks_with_trailers(void **state)
{
	AUTO_STR a = raw_talk(f, GET_CLOSE("/pieces"));

	assert_has(a, "transfer-encoding: chunked\r\n");
	assert_has(a, "4\r\none,\r\n4\r\ntwo,\r\n5\r\nthree\r\n0\r\nx-sum: 3\r\n\r\n");
}

static void http_10_is_closed(void **state)
{
	AUTO_STR a = raw_talk(f, "GET /pieces HTTP/1.0\r\n\r\n");
	AUTO_STR b = raw_talk(f, "GET /x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n");

	assert_has(a, "connection: close\r\n\r\none,two,three");
	assert_int_equal(count_of(a, "chunked"), 0);
	assert_has(b, "connection: close\r\n");
	assert_has(b, "GET\n/x\n\n-\n");
}

static void expect_is_answered(void **state)
{
	int fd = raw_connect(f);
	AUTO_STR a = NULL;
	AUTO_STR b = NULL;
	AUTO_STR c = NULL;

	raw_sends(fd, "POST /e HTTP/1.1\r\nhost: me\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n");
	a = raw_read(fd, "\r\n\r\n");
	assert_string_equal(a, "HTTP/1.1 100 Continue\r\n\r\n");
	raw_sends(fd, "hi");
	b = raw_read(fd, "me\nhi");
	close(fd);
	c = raw_talk(f, "POST /small HTTP/1.1\r\nhost: me\r\ncontent-length: 20\r\nexpect: 100-continue\r\n\r\n");
	assert_has(c, "HTTP/1.1 413");
	assert_int_equal(count_of(c, "100 Continue"), 0);
}

static void a_large_body_is_refused_once(void **state)
{
	AUTO_STR a = raw_talk(f, "POST /small HTTP/1.1\r\nhost: me\r\ntransfer-encoding: chunked\r\n\r\n"
				 "8\r\n12345678\r\n8\r\n12345678\r\n8\r\n12345678\r\n0\r\n\r\n");
	AUTO_STR b = raw_talk(f, "POST /small HTTP/1.1\r\nhost: me\r\ncontent-length: 11\r\n\r\n12345678901");
	AUTO_STR c = raw_talk(
	    f, "POST /small HTTP/1.1\r\nhost: me\r\nconnection: close\r\ncontent-length: 10\r\n\r\n1234567890");
	AUTO_STR big = mem_alloc((size_t)3 << 20);
	int fd = raw_connect(f);
	AUTO_STR d = NULL;

	assert_has(a, "HTTP/1.1 413");
	assert_has(b, "HTTP/1.1 413");
	assert_has(c, "HTTP/1.1 200");
	assert_int_equal(atomic_load(&f->too_large), 2);
	/* The answer must arrive although the client sends on and on. */
	memset(big, 'x', (size_t)3 << 20);
	raw_sends(fd, "POST /big HTTP/1.1\r\nhost: me\r\ncontent-length: 3145728\r\n\r\n");
	raw_send(fd, big, (size_t)3 << 20);
	d = raw_read_all(fd);
	assert_has(d, "HTTP/1.1 413");
	assert_int_equal(atomic_load(&f->too_large), 3);
	close(fd);
}

static void uploads_are_streamed(void **state)
{
	AUTO_STR piece = mem_alloc(65536);
	int fd = raw_connect(f);
	AUTO_STR a = NULL;

	memset(piece, 'p', 65536);
	raw_sends(fd, "PUT /stream/count HTTP/1.1\r\nhost: me\r\ntransfer-encoding: chunked\r\n\r\n");
	for (int i = 0; i < 40; i++) {
		raw_sends(fd, "10000\r\n");
		raw_send(fd, piece, 65536);
		raw_sends(fd, "\r\n");
	}
	raw_sends(fd, "0\r\n\r\n");
	a = raw_read(fd, "2621440");
	assert_has(a, "HTTP/1.1 200");
	close(fd);
	wait_for(&f->closes, 1);
}

static void a_paused_upload_waits(void **state)
{
	int fd = raw_connect(f);
	struct http_exchange *x;
	AUTO_STR a = NULL;

	raw_sends(fd, "PUT /stream/paused HTTP/1.1\r\nhost: me\r\ncontent-length: 6\r\n\r\nabc");
	wait_for(&f->requests, 1);
	a = raw_talk(f, GET_CLOSE("/other"));
	assert_int_equal(atomic_load(&f->streamed), 0);
	x = atomic_load(&f->held);
	http_pause(x, false);
	raw_sends(fd, "def");
	str_free(&a);
	a = raw_read(fd, "\r\n\r\n6");
	assert_int_equal(atomic_load(&f->streamed), 6);
	close(fd);
}

static void a_pause_at_the_last_byte_of_a_body_ends(void **state)
{
	int fd = raw_connect(f);
	AUTO_STR a = NULL;

	raw_sends(fd, "PUT /stream/gulps HTTP/1.1\r\nhost: me\r\ncontent-length: 6\r\n\r\nabcdef");
	wait_for_size(&f->streamed, 6);
	http_pause(atomic_load(&f->held), false);
	a = raw_read(fd, "\r\n\r\n6");
	assert_has(a, "HTTP/1.1 200");
	close(fd);
}

static void an_early_answer_to_an_upload_arrives(void **state)
{
	AUTO_STR a = raw_talk(f, "PUT /stream/refuse HTTP/1.1\r\nhost: me\r\ncontent-length: 1000000\r\n\r\nabc");

	assert_has(a, "HTTP/1.1 403");
	assert_has(a, "connection: close");
	wait_for(&f->closes, 1);
}

static void a_disconnect_is_noticed_while_nothing_is_written(void **state)
{
	int fd = raw_connect(f), other = raw_connect(f);
	AUTO_STR a = NULL;

	raw_sends(fd, GET("/events"));
	a = raw_read(fd, "data: 1");
	raw_sends(other, GET("/hold"));
	wait_for(&f->requests, 2);
	assert_int_equal(atomic_load(&f->closes), 0);
	close(fd);
	wait_for(&f->closes, 1);
	close(other);
	wait_for(&f->closes, 2);
	assert_int_equal(http_reply(f->held, 200, NULL, 0, "", 0), ERR_CLOSED);
}

static void a_half_closed_client_gets_its_answer(void **state)
{
	int fd = raw_connect(f);
	AUTO_STR a = NULL;

	raw_sends(fd, GET("/x") GET("/y"));
	shutdown(fd, SHUT_WR);
	a = raw_read_all(fd);
	assert_has(a, "\n/x\n");
	assert_has(a, "\n/y\n");
	close(fd);
}

/* The stream begins only after the client's end was seen: nothing more can be read that would tell. */
static void a_pipelined_stream_of_a_client_that_left_ends(void **state)
{
	int fd = raw_connect(f);
	AUTO_STR a = NULL;

	raw_sends(fd, GET("/x") GET("/events"));
	shutdown(fd, SHUT_WR);
	a = raw_read_all(fd);
	assert_has(a, "\n/x\n");
	wait_for(&f->closes, 1);
	close(fd);
}

/* Two threads write whole lines; each line must stay whole and each thread's in order. */
static void *write_lines(void *arg)
{
	char line[64];
	char name = *(char *)arg;

	for (int i = 0; i < 2000; i++) {
		int n = snprintf(line, sizeof(line), "<%c %d>", name, i);

		assert_int_equal(http_write(f->held, line, (size_t)n), OK);
	}
	return NULL;
}

static void writes_from_threads_keep_their_order(void **state)
{
	int fd = raw_connect(f), next[2] = {0, 0};
	pthread_t t[2];
	AUTO_STR a = NULL;
	char *p;

	raw_sends(fd, "GET /hold HTTP/1.0\r\n\r\n");
	wait_for(&f->requests, 1);
	while (atomic_load(&f->held) == NULL)
		sched_yield();
	assert_int_equal(http_start(f->held, 200, NULL, 0), OK);
	pthread_create(&t[0], NULL, write_lines, "a");
	pthread_create(&t[1], NULL, write_lines, "b");
	pthread_join(t[0], NULL);
	pthread_join(t[1], NULL);
	assert_int_equal(http_end(f->held, NULL, 0), OK);
	assert_int_equal(http_write(f->held, "x", 1), ERR_CLOSED);
	a = raw_read_all(fd);
	p = strstr(a, "\r\n\r\n");
	assert_non_null(p);
	for (p += 4; *p != '\0';) {
		char name;
		int i, used = 0;

		assert_int_equal(sscanf(p, "<%c %d>%n", &name, &i, &used), 2);
		assert_true(used > 0);
		assert_int_equal(i, next[name - 'a']++);
		p += used;
	}
	assert_int_equal(next[0], 2000);
	assert_int_equal(next[1], 2000);
	close(fd);
	wait_for(&f->closes, 1);
	assert_int_equal(http_unsent(f->held), 0);
}

static void unsent_counts_what_the_peer_leaves(void **state)
{
	int fd = raw_connect(f);
	AUTO_STR mib = mem_alloc(1 << 20);
	AUTO_STR a = NULL;

	memset(mib, 'm', 1 << 20);
	raw_sends(fd, "GET /hold HTTP/1.0\r\n\r\n");
	wait_for(&f->requests, 1);
	while (atomic_load(&f->held) == NULL)
		sched_yield();
	assert_int_equal(http_start(f->held, 200, NULL, 0), OK);
	for (int i = 0; i < 16; i++)
		assert_int_equal(http_write(f->held, mib, 1 << 20), OK);
	assert_true(http_unsent(f->held) > (size_t)4 << 20);
	assert_int_equal(http_end(f->held, NULL, 0), OK);
	a = raw_read_all(fd);
	assert_true(strlen(a) > (size_t)16 << 20);
	assert_int_equal(http_unsent(f->held), 0);
	close(fd);
}

static void watch_close(void *ctx, struct http_exchange *x)
{
	atomic_fetch_add((atomic_int *)ctx, 1);
}

static void a_watch_set_too_late_hears_the_end(void **state)
{
	int fd = raw_connect(f);
	atomic_int heard = 0;
	struct http_watch w = {.on_close = watch_close, .ctx = &heard};
	struct http_exchange *x;

	raw_sends(fd, GET("/hold"));
	wait_for(&f->requests, 1);
	while (atomic_load(&f->held) == NULL)
		sched_yield();
	close(fd);
	wait_for(&f->closes, 1);
	http_watch(f->held, &w);
	wait_for(&heard, 1);
	x = atomic_exchange(&f->held, NULL);
	fixture_free(&f);
	http_watch(x, &w);
	assert_int_equal(atomic_load(&heard), 2);
	http_exchange_free(&x);
}

static void deadlines_are_kept(void **state)
{
	struct http_server_config cfg = {.head_timeout_ms = 200, .idle_timeout_ms = 200, .body_timeout_ms = 200};
	AUTO_STR head = NULL;
	AUTO_STR body = NULL;
	AUTO_STR idle = NULL;
	AUTO_STR half = NULL;
	int fd;

	fixture_free(&f);
	f = fixture_new(&cfg);
	head = raw_talk(f, "GET / HTTP/1.1\r\nho");
	assert_has(head, "HTTP/1.1 408");
	half = raw_talk(f, "PRI * HT");
	assert_string_equal(half, "");
	body = raw_talk(f, "POST / HTTP/1.1\r\nhost: me\r\ncontent-length: 5\r\n\r\nab");
	assert_has(body, "HTTP/1.1 408");
	idle = raw_talk(f, "");
	assert_string_equal(idle, "");
	/* One that is being answered is not idle. */
	fd = raw_connect(f);
	raw_sends(fd, GET("/hold"));
	wait_for(&f->requests, 1);
	str_free(&idle);
	idle = raw_talk(f, GET("/x"));
	assert_has(idle, "\n/x\n");
	assert_int_equal(http_reply(f->held, 200, NULL, 0, "late", 4), OK);
	str_free(&idle);
	idle = raw_read(fd, "late");
	close(fd);
}

static void drain_ends_idle_connections_only(void **state)
{
	int idle = raw_connect(f), busy = raw_connect(f);
	AUTO_STR a = NULL;
	AUTO_STR b = NULL;
	AUTO_STR c = NULL;

	raw_sends(idle, GET("/x"));
	a = raw_read(idle, "\n/x\n");
	raw_sends(busy, GET("/hold"));
	wait_for(&f->requests, 2);
	while (atomic_load(&f->held) == NULL)
		sched_yield();
	http_server_drain(f->server);
	b = raw_read_all(idle);
	assert_string_equal(b, "");
	assert_int_equal(http_reply(f->held, 200, NULL, 0, "done", 4), OK);
	c = raw_read_all(busy);
	assert_has(c, "connection: close\r\n");
	assert_has(c, "done");
	close(idle);
	close(busy);
}

static void the_limit_of_connections_holds(void **state)
{
	struct http_server_config cfg = {.max_connections = 2};
	AUTO_STR a = NULL;
	AUTO_STR b = NULL;
	AUTO_STR c = NULL;
	int one, two, three;

	fixture_free(&f);
	f = fixture_new(&cfg);
	one = raw_connect(f);
	raw_sends(one, GET("/1"));
	a = raw_read(one, "\n/1\n");
	two = raw_connect(f);
	raw_sends(two, GET("/2"));
	b = raw_read(two, "\n/2\n");
	three = raw_connect(f);
	c = raw_read_all(three);
	assert_string_equal(c, "");
	close(one);
	close(two);
	close(three);
}

static void a_taken_port_is_reported(void **state)
{
	struct http_server_config cfg = {.host = "127.0.0.1", .port = f->port, .loops = 1};
	struct http_server *s = NULL;
	struct why why = {""};

	cfg.callbacks.on_head = (void (*)(void *, struct http_exchange *, struct http_plan *))1;
	cfg.callbacks.on_request = cfg.callbacks.on_too_large = (void (*)(void *, struct http_exchange *))1;
	assert_int_equal(http_server_start(&cfg, &s, &why), ERR_NET);
	assert_has(why.text, "address in use");
	cfg.host = "localhost";
	assert_int_equal(http_server_start(&cfg, &s, &why), ERR_NET);
	assert_has(why.text, "numeric");
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(keeps_the_connection_for_more),
	    T(answers_pipelined_requests_in_order),
	    T(takes_a_request_cut_anywhere),
	    T(takes_single_bytes),
	    T(refuses_what_is_malformed),
	    T(refuses_a_large_head),
	    T(absolute_form_is_reduced_to_its_path),
	    T(head_gets_no_body),
	    T(streams_in_chunks_with_trailers),
	    T(http_10_is_closed),
	    T(expect_is_answered),
	    T(a_large_body_is_refused_once),
	    T(uploads_are_streamed),
	    T(a_paused_upload_waits),
	    T(a_pause_at_the_last_byte_of_a_body_ends),
	    T(an_early_answer_to_an_upload_arrives),
	    T(a_disconnect_is_noticed_while_nothing_is_written),
	    T(a_half_closed_client_gets_its_answer),
	    T(a_pipelined_stream_of_a_client_that_left_ends),
	    T(writes_from_threads_keep_their_order),
	    T(unsent_counts_what_the_peer_leaves),
	    T(a_watch_set_too_late_hears_the_end),
	    T(deadlines_are_kept),
	    T(drain_ends_idle_connections_only),
	    T(the_limit_of_connections_holds),
	    T(a_taken_port_is_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
