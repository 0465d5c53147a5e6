/* runs/stream_priv.h: the pump's feeds and their readers; for stream.c and stream_feed.c. Everything belongs to the
 * pump's thread, unless said otherwise. */
#pragma once
#include "base/strbuf.h"
#include "server/fleet/queue.h"
#include "server/runs/stream.h"

#define UNSENT_HIGH (1024 * 1024) /* a slow reader is fed no more until it has drained */
#define READER_MAGIC 0x53554253u

/* One client that reads a run. */
struct reader {
	unsigned magic;
	struct pump *pump; /* constant */
	struct http_exchange *x; /* constant */
	char *agent_id, *run_id; /* constant */
	char *key_id; /* constant; the key that opened it, and ends with it */
	int64_t after_seq; /* the last event it was sent */
	int64_t last_frame_ms, slow_since_ms;
	char *status; /* last one sent; NULL: none */
	char *wait_key; /* of the last status frame (feed_news); "" if it had none */
	bool done; /* ended by us; on_close will come */
	struct reader *next; /* of the same feed */
};
void reader_free(struct reader **s);

/* A run with readers. */
struct feed {
	char *run_id;
	struct reader *first;
	size_t n;
	bool changed; /* in the pump's list of feeds to look at */
	struct feed *next_changed;
	/* While the run waits in the queue: what it waits for, and the reason that was read last. Other requests and
	 * workers change the reason without changing the run, so it is compared once a second. */
	struct queue_group *waits_for; /* also while its worker opens the session; NULL: it does not wait */
	char wait_code[32];
};

/* The state of the run as its readers are told it. */
struct feed_news {
	char *status, *error_message; /* error_message NULL: none */
	json_t *wait; /* NULL: it does not wait */
	char *wait_key; /* what about the reason is worth a status frame when it changes; NULL: it does not wait */
	int64_t last_seq, last_ms, last_n; /* the newest event */
};

/* stream_feed.c: sends the readers what they have not seen. ERR_NOT_FOUND: the run is gone. Store errors: look again
 * later. */
int feed_look(struct runs *r, struct feed *f) MUST_USE;
/* The end of the response; on_close will come. */
void reader_end(struct reader *s);
void reader_send(struct reader *s, const char *bytes, size_t len);
/* One server-sent event; id may be NULL. */
void add_frame(struct strbuf *b, const char *id, const char *event, const char *data);
