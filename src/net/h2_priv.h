/* net/h2_priv.h: HTTP/2 on one connection of the server: what its requests (h2_request.c) and the rest (h2.c) share.
 * Thread: the loop's. */
#pragma once
#include "net/http_priv.h"
#include <nghttp2/nghttp2.h>

struct h2 {
	struct conn *c;
	nghttp2_session *ng;
	struct list_node streams;
	size_t n_streams;
	struct list_node ended; /* closed by nghttp2, to be wound up outside its callbacks */
	/* Work that costs us more than the peer: frames without content, requests that are thrown away. */
	int64_t control_since_ms, resets_since_ms;
	unsigned n_control, n_resets;
	bool cut; /* and the reason is told */
	bool broken; /* nghttp2 gave up: what it has queued is sent, then the connection ends */
	void *frame_buffer; /* of nghttp2, if its pages can be given back; or NULL */
	int64_t sent_ms; /* when it was used last; 0: its pages are given back */
	int64_t last_sent_ms;
	bool done; /* it has ended; nghttp2 must not be asked for more */
};

struct h2_req {
	struct list_node link;
	struct h2 *h;
	struct http_exchange *x;
	int32_t id;
	struct byteq out, held;
	struct fields *trailers;
	char *method, *target, *authority;
	size_t head_bytes, n_discarded;
	int64_t last_ms;
	bool deferred, ended, dispatched, held_end;
	int refuse_status;
	const char *refuse_text;
};

static inline struct h2_req *req_of(nghttp2_session *ng, int32_t id)
{
	return nghttp2_session_get_stream_user_data(ng, id);
}

/* Sends the head of a response; `len`: the whole body's, or -1. */
void h2_respond(struct h2_req *r, int status, const struct http_header *headers, size_t n, int64_t len, bool has_body);
/* Lets nghttp2 call the functions of h2_request.c. */
void h2_request_callbacks(nghttp2_session_callbacks *cb);
/* Delivers what was held back, until the exchange is paused again. */
void h2_deliver_held(struct h2_req *r);
/* Ends the connection for what the peer did, with GOAWAY and a line in the log. */
void h2_cut(struct h2 *h, uint32_t code, const char *reason);
/* For new sessions of the loop that owns `m`. */
nghttp2_mem *h2_mem_of(struct h2_mem *m);
/* The frame buffer of the session that was just made; NULL if it is on the heap. */
void *h2_mem_latest(struct h2_mem *m);
/* Gives its pages back: it reads as zeros. For a session that has nothing to send. */
void h2_mem_rest(void *frame_buffer);
