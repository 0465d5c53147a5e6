/* The worker's end of an HTTP/2 stream, from dialling to on_close. libcurl is replaced by a script: what the server
 * says comes from the input, in pieces, and the connection may take little, break or end at any time. on_close must
 * come exactly once, with a reason that a person can read, whatever the server does. */
#include "base/mem.h"
#include "base/text.h"
#include "h2_frames.h"
#include "net/h2_stream_priv.h"
#include <stdarg.h>
#include <sys/socket.h>
#include <unistd.h>

#undef curl_easy_getinfo

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct {
	struct bytes in;
	struct strbuf to_client; /* said by the server, not received yet */
	struct strbuf heard; /* what on_data gave */
	struct strbuf sent; /* what the server got */
	struct h2_stream *s; /* NULL: closed */
	int sockets[2];
	CURLcode code; /* of the next call, CURLE_OK: as usual */
	bool ended; /* the server's side of the connection */
	size_t room; /* bytes the connection takes */
	unsigned opened, closed;
} w;

CURLcode curl_easy_perform(CURL *e)
{
	return CURLE_OK;
}

CURLcode curl_easy_getinfo(CURL *e, CURLINFO info, ...)
{
	va_list ap;

	ENSURE(info == CURLINFO_ACTIVESOCKET);
	va_start(ap, info);
	*va_arg(ap, curl_socket_t *) = w.sockets[0];
	va_end(ap);
	return CURLE_OK;
}

CURLcode curl_easy_recv(CURL *e, void *buf, size_t len, size_t *ret_n)
{
	size_t n = MIN(len, w.to_client.len), piece;

	if (w.code != CURLE_OK)
		return w.code;
	*ret_n = 0;
	if (n == 0)
		return w.ended ? CURLE_OK : CURLE_AGAIN;
	piece = (size_t)take_u8(&w.in) * 4 + 1;
	n = MIN(n, piece);
	memcpy(buf, w.to_client.data, n);
	strbuf_consume(&w.to_client, n);
	*ret_n = n;
	return CURLE_OK;
}

CURLcode curl_easy_send(CURL *e, const void *buf, size_t len, size_t *ret_n)
{
	if (w.code != CURLE_OK)
		return w.code;
	*ret_n = MIN(len, w.room);
	w.room -= *ret_n;
	strbuf_add(&w.sent, buf, *ret_n);
	return *ret_n > 0 ? CURLE_OK : CURLE_AGAIN;
}

static void on_open(void *ctx)
{
	ENSURE(w.opened++ == 0 && w.closed == 0);
	IGNORE(h2_stream_write(w.s, "first", 5));
}

static void on_data(void *ctx, const void *bytes, size_t len)
{
	ENSURE(w.opened == 1 && w.closed == 0);
	strbuf_add(&w.heard, bytes, len);
}

static void on_drain(void *ctx)
{
	ENSURE(w.closed == 0 && h2_stream_unsent(w.s) < DRAIN_MARK);
}

static void on_close(void *ctx, const struct h2_close *why)
{
	ENSURE(w.closed++ == 0);
	ENSURE(why->text[0] != '\0' || why->kind == H2_CLOSE_STATUS);
	ENSURE(text_is_utf8(why->text, strlen(why->text)));
	ENSURE(why->kind >= H2_CLOSE_CONNECT && why->kind <= H2_CLOSE_LOCAL);
	ENSURE(why->http_status == 0 || (why->http_status >= 100 && why->http_status <= 999));
	w.s = NULL;
}

static void put_response(struct bytes *in)
{
	static const char *const statuses[] = {"200", "404", "100", "0", "2000", "-1", "", "502"};
	static const char *const codes[] = {"0", "16", "-1", "1001", "99999999999", "x", "14", "8"};
	AUTO_FINI(strbuf) h = STRBUF((size_t)64 * 1024);
	uint8_t what = take_u8(in), n = take_u8(in);
	size_t len;
	const uint8_t *text = take_bytes(in, n & 31, &len);

	if (!(what & 1))
		put_text_field(&h, ":status", statuses[(n >> 5) % ARRAY_LEN(statuses)]);
	if (what & 2)
		put_text_field(&h, "content-type", "application/grpc");
	if (what & 4)
		put_text_field(&h, "grpc-status", codes[(n >> 5) % ARRAY_LEN(codes)]);
	if (what & 8)
		put_field(&h, what & 128, "grpc-message", 12, text, len);
	put_frame(&w.to_client, H2_HEADERS, (uint8_t)((what & 16 ? 0 : 4) | (what & 64 ? 1 : 0)), what & 32 ? 3 : 1,
	    strbuf_str(&h), h.len);
}

static void put_data(struct bytes *in)
{
	uint8_t what = take_u8(in);
	size_t n;
	const uint8_t *bytes = take_bytes(in, what & 31, &n);

	put_frame(&w.to_client, H2_DATA, what & 32 ? 1 : 0, what & 64 ? 3 : 1, bytes, n);
}

/* What is there is read; timers of 0 ms run. */
static void turn(void)
{
	static const char mark = 1;
	char drop[64];

	IGNORE(write(w.sockets[1], &mark, 1));
	uv_run(w.s->loop, UV_RUN_NOWAIT);
	while (recv(w.sockets[0], drop, sizeof drop, MSG_DONTWAIT) == sizeof drop)
		;
}

static void write_some(struct bytes *in)
{
	static const char zeros[70000];
	uint8_t what = take_u8(in);
	size_t n = what & 128 ? sizeof zeros : what;

	IGNORE(h2_stream_write(w.s, zeros, n));
}

static void break_off(struct bytes *in)
{
	uint8_t what = take_u8(in);

	w.ended = what & 1;
	w.code = what & 2 ? CURLE_RECV_ERROR : CURLE_OK;
}

static void act(struct bytes *in)
{
	uint8_t op = take_u8(in);

	switch (op % 12) {
	case 0:
	case 1:
		put_response(in);
		break;
	case 2:
		put_data(in);
		break;
	case 3:
		put_control(&w.to_client, in, 1);
		break;
	case 4:
		put_raw_frame(&w.to_client, in);
		break;
	case 5:
		write_some(in);
		break;
	case 6:
		h2_stream_ping(w.s);
		break;
	case 7:
		w.room += take_u8(in) * 64u;
		break;
	case 8:
		if (op >= 128)
			h2_stream_close(w.s);
		break;
	case 9:
		if (op >= 128)
			break_off(in);
		break;
	case 10:
		strbuf_addc(&w.to_client, (char)take_u8(in));
		break;
	default:
		turn();
	}
}

static uv_loop_t *the_loop(void)
{
	static uv_loop_t loop;
	static bool made;

	if (!made) {
		ENSURE(setenv("UV_THREADPOOL_SIZE", "1", 1) == 0 && uv_loop_init(&loop) == 0);
		made = true;
	}
	return &loop;
}

static void open_stream(void)
{
	static const struct http_header headers[] = {
	    {"content-type", "application/grpc"}, {"authorization", "Bearer x"}};
	const struct h2_stream_config cfg = {.url = "http://127.0.0.1:1/x.y/Z",
	    .headers = headers,
	    .n_headers = 2,
	    .on_open = on_open,
	    .on_data = on_data,
	    .on_drain = on_drain,
	    .on_close = on_close};

	ENSURE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, w.sockets) == 0);
	ENSURE(h2_stream_dial(the_loop(), &cfg, &w.s) == OK);
	while (w.opened == 0)
		uv_run(the_loop(), UV_RUN_ONCE);
	ENSURE(w.closed == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint8_t first = size > 0 ? data[0] : 0;

	memset(&w, 0, sizeof w);
	w.in = (struct bytes){data + (size > 0), size - (size > 0)};
	w.to_client = w.heard = w.sent = STRBUF((size_t)16 * 1024 * 1024);
	w.room = first & 1 ? 16 : (size_t)1024 * 1024;
	if (!(first & 2))
		put_frame(&w.to_client, H2_SETTINGS, 0, 0, "", 0);
	open_stream();
	while (w.in.len > 0 && w.s != NULL)
		act(&w.in);
	if (w.s != NULL)
		turn();
	/* The end of the connection is the end of the stream. */
	if (w.s != NULL) {
		w.ended = true;
		while (w.s != NULL)
			turn();
	}
	uv_run(the_loop(), UV_RUN_NOWAIT);
	ENSURE(w.opened == 1 && w.closed == 1 && !uv_loop_alive(the_loop()));
	close(w.sockets[0]);
	close(w.sockets[1]);
	strbuf_fini(&w.to_client);
	strbuf_fini(&w.heard);
	strbuf_fini(&w.sent);
	return 0;
}
