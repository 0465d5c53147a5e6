/* bench/http_reader.h: an HTTP/1.1 response as it arrives, cut into lines. For our own server only: what it does not
 * understand ends the program.
 * Thread: the owner's. */
#pragma once
#include "base/macros.h"

#define HTTP_LINE_MAX (64 * 1024)

struct http_reader {
	/* A line of the body without its end; the last one also without a newline. A longer line comes cut. */
	void (*on_line)(void *ctx, const char *line, size_t len);
	void *ctx;
	int status; /* 0 until the head is there */
	bool done;
	/* Private. */
	int state;
	bool chunked;
	size_t left, n;
	char *line;
};

void http_reader_init(struct http_reader *r, void (*on_line)(void *ctx, const char *line, size_t len), void *ctx);
/* For the next response on the same connection. */
void http_reader_again(struct http_reader *r);
void http_reader_fini(struct http_reader *r);
/* Takes bytes up to the end of the response; returns how many. */
size_t http_reader_feed(struct http_reader *r, const char *bytes, size_t len);

/* A connection to 127.0.0.1:port. */
int http_connect(uint16_t port);
void http_send_all(int fd, const char *bytes, size_t len);
/* Reads one whole response. */
void http_read_response(int fd, struct http_reader *r);
