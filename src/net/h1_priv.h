/* net/h1_priv.h: HTTP/1.1 on one connection: what its reading (h1.c) and its writing (h1_reply.c) share.
 * Thread: the loop's. */
#pragma once
#include "net/http_priv.h"
#include <llhttp/llhttp.h>

/* The form of a head as far as it was seen; zero before its first byte. */
struct h1_guard {
	size_t lines, in_line;
	char before;
	bool done; /* behind the empty line */
	unsigned matched; /* of "HEAD " at its beginning: an answer to that has no body, also a refusal */
};
#define H1_HEAD_WORD "HEAD "
/* False: this is not a head that everybody reads in the same way. Bytes behind the head are not looked at. */
bool h1_guard_check(struct h1_guard *g, const char *bytes, size_t len);

struct h1 {
	llhttp_t parser;
	struct conn *c;
	struct http_exchange *x; /* being received or answered */
	struct byteq held;
	struct strbuf target, name, value;
	struct h1_guard guard;
	size_t head_bytes; /* of the head now being read */
	size_t extra_bytes; /* chunk extensions and trailers */
	bool expects; /* 100 Continue is due when the body is wanted */
	bool in_head, keep_alive, started, chunked, no_body;
	int refuse_status;
	const char *refuse_text;
};

/* The exchange, if any, ends here; the peer is told why unless it is already reading a response. */
void h1_fail(struct h1 *h, int status, const char *code, const char *text);
/* Puts the head of a response into the queue. `len`: the whole body's, or -1 when it follows in pieces. */
void h1_send_head(struct h1 *h, int status, const struct fields *f, int64_t len);
/* Puts the command's bytes into the queue, or drops them if this response has no body. */
void h1_send_body(struct h1 *h, struct cmd *cmd, bool chunked);
/* The last chunk, if there are chunks. */
void h1_send_end(struct h1 *h, const struct fields *trailers);
