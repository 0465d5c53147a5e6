#include "net/http_client.h"
#include "server_fixture.h"
#include <pthread.h>
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

static char *url_of(const char *path)
{
	return str_printf("http://127.0.0.1:%u%s", f->port, path);
}

static void posts_and_collects(void **state)
{
	const struct http_header headers[] = {{"content-type", "application/json"}, {"x-empty", ""}};
	AUTO_STR url = url_of("/api?x=1");
	struct http_client_request req = {
	    .method = "POST", .url = url, .headers = headers, .n_headers = 2, .body = "{}", .body_len = 2};
	struct http_client_response resp;
	struct why why = {""};

	assert_int_equal(http_client_do(&req, &resp, &why), OK);
	assert_int_equal(resp.status, 200);
	assert_non_null(strstr(resp.body.data, "POST\n/api\nx=1\n"));
	assert_non_null(strstr(resp.body.data, "\n{}"));
	http_client_response_fini(&resp);
	req.method = "HEAD";
	req.body = NULL;
	assert_int_equal(http_client_do(&req, &resp, &why), OK);
	assert_int_equal(resp.body.len, 0);
	http_client_response_fini(&resp);
}

static void a_refused_connection_is_explained(void **state)
{
	AUTO_STR url = url_of("/");
	AUTO_STR want =
	    str_printf("cannot connect to 127.0.0.1:%u: Connection refused: is the server running there?", f->port);
	struct http_client_request req = {.method = "GET", .url = url};
	struct http_client_response resp;
	struct why why = {""};

	http_server_free(&f->server);
	assert_int_equal(http_client_do(&req, &resp, &why), ERR_NET);
	assert_string_equal(why.text, want);
	http_client_response_fini(&resp);
}

static void a_large_response_is_cut(void **state)
{
	AUTO_STR url = url_of("/some/path/that/comes/back");
	struct http_client_request req = {.method = "GET", .url = url, .max_body = 10};
	struct http_client_response resp;
	struct why why = {""};

	assert_int_equal(http_client_do(&req, &resp, &why), ERR_TOO_LARGE);
	assert_non_null(strstr(why.text, "larger than 10 bytes"));
	http_client_response_fini(&resp);
}

static void a_refusal_with_a_long_text_is_still_a_refusal(void **state)
{
	AUTO_STR url = url_of("/stream/refuse");
	struct http_client_request req = {.method = "GET", .url = url, .max_body = 1};
	struct http_client_response resp;
	struct why why = {""};

	assert_int_equal(http_client_do(&req, &resp, &why), OK);
	assert_int_equal(resp.status, 403);
	assert_string_equal(strbuf_str(&resp.body), "n");
	http_client_response_fini(&resp);
}

struct seen {
	size_t bytes;
	int result;
	bool cancel;
};

static int on_data(void *ctx, const void *bytes, size_t len)
{
	struct seen *s = ctx;

	s->bytes += len;
	return s->result;
}

static bool cancelled(void *ctx)
{
	struct seen *s = ctx;

	return s->cancel && s->bytes > 0;
}

static void streams_until_told_to_stop(void **state)
{
	struct seen s = {0};
	AUTO_STR url = url_of("/pieces");
	AUTO_STR events = url_of("/events");
	struct http_client_request req = {
	    .method = "GET", .url = url, .on_data = on_data, .cancelled = cancelled, .ctx = &s};
	struct http_client_response resp;
	struct why why = {""};
	int64_t start;

	assert_int_equal(http_client_do(&req, &resp, &why), OK);
	assert_int_equal(s.bytes, 13);
	assert_int_equal(resp.body.len, 0);
	http_client_response_fini(&resp);

	s.result = ERR_CONFLICT;
	assert_int_equal(http_client_do(&req, &resp, &why), ERR_CONFLICT);
	http_client_response_fini(&resp);

	/* An endless stream that has gone quiet. */
	s = (struct seen){.cancel = true};
	req.url = events;
	start = clock_mono_ms();
	assert_int_equal(http_client_do(&req, &resp, &why), ERR_CANCELLED);
	assert_true(clock_mono_ms() - start < 5000);
	http_client_response_fini(&resp);
	wait_for(&f->closes, 1);

	s = (struct seen){0};
	req.stall_timeout_ms = 300;
	assert_int_equal(http_client_do(&req, &resp, &why), ERR_TIMEOUT);
	assert_non_null(strstr(why.text, "nothing was received"));
	http_client_response_fini(&resp);

	req.stall_timeout_ms = 0;
	req.timeout_ms = 300;
	assert_int_equal(http_client_do(&req, &resp, &why), ERR_TIMEOUT);
	assert_non_null(strstr(why.text, "in time"));
	http_client_response_fini(&resp);
}

static void a_lost_answer_is_an_error(void **state)
{
	AUTO_STR url = url_of("/hold");
	struct http_client_request req = {.method = "GET", .url = url, .timeout_ms = 20000};
	struct http_client_response resp;
	struct http_server_config cfg = {.max_connections = 1};
	struct why why = {""};
	int fd;

	fixture_free(&f);
	f = fixture_new(&cfg);
	fd = raw_connect(f);
	raw_sends(fd, "GET /hold HTTP/1.1\r\nhost: me\r\n\r\n");
	wait_for(&f->requests, 1);
	str_free(&url);
	url = url_of("/x");
	req.url = url;
	assert_int_equal(http_client_do(&req, &resp, &why), ERR_NET);
	assert_non_null(strstr(why.text, "127.0.0.1"));
	http_client_response_fini(&resp);
	close(fd);
}

static void *ask_often(void *pool)
{
	AUTO_STR url = url_of("/api");
	const struct http_header headers[] = {{"content-type", "text/plain"}};

	for (int i = 0; i < 30; i++) {
		struct http_client_request req = {.method = "POST",
		    .url = url,
		    .pool = pool,
		    .headers = headers,
		    .n_headers = 1,
		    .body = "abc",
		    .body_len = 3};
		struct http_client_response resp;
		struct why why = {""};

		assert_int_equal(http_client_do(&req, &resp, &why), OK);
		assert_int_equal(resp.status, 200);
		assert_non_null(strstr(resp.body.data, "\nabc"));
		http_client_response_fini(&resp);
	}
	return NULL;
}

static void connections_are_shared_by_threads(void **state)
{
	static const struct {
		size_t max;
		int64_t idle_ms;
	} cases[] = {{4, 60000}, {1, 60000}, {0, 60000}, {4, 0}};

	for (size_t c = 0; c < ARRAY_LEN(cases); c++) {
		struct http_client_pool *pool = http_client_pool_new(cases[c].max, cases[c].idle_ms);
		pthread_t threads[4];

		for (size_t i = 0; i < ARRAY_LEN(threads); i++)
			assert_int_equal(pthread_create(&threads[i], NULL, ask_often, pool), 0);
		for (size_t i = 0; i < ARRAY_LEN(threads); i++)
			pthread_join(threads[i], NULL);
		http_client_pool_free(&pool);
		assert_null(pool);
	}
}

/* What the peer closed meanwhile is no reason to fail. */
static void a_kept_connection_may_be_gone(void **state)
{
	struct http_client_pool *pool = http_client_pool_new(4, 60000);
	struct http_server_config cfg = {.port = f->port};
	uint16_t port = f->port;

	ask_often(pool);
	fixture_free(&f);
	f = fixture_new(&cfg);
	assert_int_equal(f->port, port);
	ask_often(pool);
	http_client_pool_free(&pool);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
	    T(posts_and_collects),
	    T(a_refused_connection_is_explained),
	    T(a_large_response_is_cut),
	    T(a_refusal_with_a_long_text_is_still_a_refusal),
	    T(streams_until_told_to_stop),
	    T(a_lost_answer_is_an_error),
	    T(connections_are_shared_by_threads),
	    T(a_kept_connection_may_be_gone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
