#include "bench/http_reader.h"
#include "base/mem.h"
#include "bench/measure.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

enum { IN_HEAD, IN_LENGTH, IN_CHUNK_SIZE, IN_CHUNK, AFTER_CHUNK, IN_TRAILER };

void http_reader_init(struct http_reader *r, void (*on_line)(void *ctx, const char *line, size_t len), void *ctx)
{
	*r = (struct http_reader){.on_line = on_line, .ctx = ctx, .line = mem_alloc(HTTP_LINE_MAX + 1)};
}

void http_reader_again(struct http_reader *r)
{
	r->state = IN_HEAD;
	r->status = 0;
	r->done = r->chunked = false;
	r->left = r->n = 0;
}

void http_reader_fini(struct http_reader *r)
{
	free(r->line);
	r->line = NULL;
}

static void give_line(struct http_reader *r)
{
	r->line[r->n] = '\0';
	if (r->on_line != NULL)
		r->on_line(r->ctx, r->line, r->n);
	r->n = 0;
}

static void end(struct http_reader *r)
{
	if (r->n > 0)
		give_line(r);
	r->done = true;
}

static void take_body(struct http_reader *r, const char *bytes, size_t len)
{
	while (len > 0) {
		const char *nl = memchr(bytes, '\n', len);
		size_t piece = nl != NULL ? (size_t)(nl - bytes) : len, room = HTTP_LINE_MAX - r->n;

		memcpy(r->line + r->n, bytes, MIN(piece, room));
		r->n += MIN(piece, room);
		if (nl == NULL)
			return;
		give_line(r);
		bytes += piece + 1;
		len -= piece + 1;
	}
}

static void head_line(struct http_reader *r)
{
	r->line[r->n] = '\0';
	if (r->status == 0) {
		if (sscanf(r->line, "HTTP/1.1 %d", &r->status) != 1)
			bench_die("not a response: %.80s", r->line);
	} else if (strncasecmp(r->line, "content-length:", 15) == 0) {
		r->left = (size_t)strtoull(r->line + 15, NULL, 10);
	} else if (strncasecmp(r->line, "transfer-encoding: chunked", 26) == 0) {
		r->chunked = true;
	} else if (r->n == 0) {
		r->state = r->chunked ? IN_CHUNK_SIZE : IN_LENGTH;
		if (!r->chunked && r->left == 0)
			end(r);
	}
	r->n = 0;
}

/* Heads and chunk sizes come byte by byte; a line of the body that began in an earlier chunk is kept beside. */
static void framing_byte(struct http_reader *r, char c)
{
	if (r->state == IN_HEAD) {
		if (c == '\n')
			head_line(r);
		else if (c != '\r' && r->n < HTTP_LINE_MAX)
			r->line[r->n++] = c;
	} else if (r->state == IN_CHUNK_SIZE) {
		if (c == '\n')
			r->state = r->left > 0 ? IN_CHUNK : IN_TRAILER;
		else if (c != '\r')
			r->left = r->left * 16 + (size_t)(c <= '9' ? c - '0' : (c | 32) - 'a' + 10);
	} else if (r->state == AFTER_CHUNK) {
		if (c == '\n')
			r->state = IN_CHUNK_SIZE;
	} else if (c == '\n') {
		end(r); /* our server sends no trailers on HTTP/1.1 streams */
	}
}

size_t http_reader_feed(struct http_reader *r, const char *bytes, size_t len)
{
	size_t at = 0;

	while (at < len && !r->done) {
		size_t piece = MIN(len - at, r->left);

		if (r->state != IN_LENGTH && r->state != IN_CHUNK) {
			framing_byte(r, bytes[at++]);
			continue;
		}
		take_body(r, bytes + at, piece);
		at += piece;
		r->left -= piece;
		if (r->left > 0)
			break;
		if (r->state == IN_CHUNK)
			r->state = AFTER_CHUNK;
		else
			end(r);
	}
	return at;
}

int http_connect(uint16_t port)
{
	struct sockaddr_in at = {
	    .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK), .sin_port = htons(port)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (fd < 0 || connect(fd, (struct sockaddr *)&at, sizeof at) != 0)
		bench_die("cannot connect to port %u: %s", port, strerror(errno));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
	return fd;
}

void http_send_all(int fd, const char *bytes, size_t len)
{
	while (len > 0) {
		ssize_t n = send(fd, bytes, len, MSG_NOSIGNAL);

		if (n <= 0)
			bench_die("send: %s", strerror(errno));
		bytes += n;
		len -= (size_t)n;
	}
}

void http_read_response(int fd, struct http_reader *r)
{
	char buf[16 * 1024];

	http_reader_again(r);
	while (!r->done) {
		ssize_t n = recv(fd, buf, sizeof buf, 0);

		if (n <= 0)
			bench_die(
			    "the server closed the connection in the middle of a response (status %d)", r->status);
		if (http_reader_feed(r, buf, (size_t)n) != (size_t)n)
			bench_die("more came than one response");
	}
}
