/* net/http_priv.h: what the parts of the HTTP server agree on; for nobody else.
 *
 * server.c owns the loops; loop.c is a thread with its mailbox, its wheel of deadlines and its connections; conn.c is
 * a socket: sniffing, write queue, closing; h1.c and h2.c speak a protocol behind struct proto; exchange.c has the
 * functions for any thread, which only ever post to the loop.
 *
 * Thread: everything here belongs to the loop's thread, except what is marked [any].
 * Callbacks of the user are called with no lock held, and what they call only posts, so nothing here is re-entered. */
#pragma once
#include "base/strbuf.h"
#include "net/http_server.h"
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <uv.h>

#define DRAIN_MARK ((size_t)64 * 1024) /* on_drain below this */
#define SOCKET_QUEUE_MAX ((size_t)256 * 1024) /* h2 hands over no more while so much waits for the socket */
#define READ_BUFFER ((size_t)64 * 1024)
#define PLAIN_BUFFER ((size_t)16 * 1024)
#define HELD_MAX ((size_t)64 * 1024) /* h1: pipelined input kept while a response is written */
#define SEND_STALL_MS 30000 /* a peer that takes nothing for so long is cut */
#define BODY_RATE_MIN 1024 /* bytes a second that a body must reach, after its first body_timeout_ms */
#define LINGER_MS 2000 /* after the last response byte, input is thrown away for so long */
#define LINGER_BYTES ((size_t)160 * 1024 * 1024) /* a body over the limit, from who reads its answer late */

/* Intrusive doubly linked list; an unlinked node points at itself or is zero. */
struct list_node {
	struct list_node *prev, *next;
};
void node_init(struct list_node *n);
void node_append(struct list_node *list, struct list_node *n);
void node_unlink(struct list_node *n); /* fine for a node that is in no list */
static inline bool node_empty(const struct list_node *list)
{
	return list->next == list;
}
#define NODE_OF(type, member, n) ((struct type *)((char *)(n)-offsetof(struct type, member)))

/* Bytes in, bytes out. Memory goes back when it is empty. */
struct byteq {
	char *data;
	size_t start, len, cap;
};
void byteq_add(struct byteq *q, const void *bytes, size_t len);
void byteq_drop(struct byteq *q, size_t n);
void byteq_fini(struct byteq *q);
static inline const char *byteq_head(const struct byteq *q)
{
	return q->data + q->start;
}

/* Header fields of a response: one block of memory, names lowercase, no byte that could end a line. [any] */
struct fields {
	size_t n;
	struct http_header list[];
};
struct fields *fields_copy(const struct http_header *headers, size_t n);

enum cmd_kind { CMD_REPLY, CMD_START, CMD_WRITE, CMD_END, CMD_ABORT, CMD_WATCH, CMD_RESUME, CMD_DRAIN, CMD_STOP };

struct cmd {
	struct cmd *next;
	enum cmd_kind kind;
	int status;
	struct http_exchange *x; /* a reference; NULL for the loop's own */
	struct fields *fields;
	struct http_watch watch;
	int64_t body_len; /* CMD_START: what was announced; -1: nothing */
	size_t len;
	char bytes[];
};
struct cmd *cmd_new(enum cmd_kind kind, struct http_exchange *x, const void *bytes, size_t len); /* [any] */
void cmd_free(struct cmd **c); /* [any] */

/* The loop's mailbox. Counted: exchanges may outlive the loop. [any] */
struct inbox {
	atomic_uint refs;
	pthread_mutex_t lock;
	struct cmd *head, **tail;
	bool closed;
	bool asleep; /* the loop waits in poll, or is about to: whoever posts first writes to wake_fd */
	int wake_fd; /* an eventfd */
	pthread_t thread;
};
struct inbox *inbox_new(void);
struct inbox *inbox_ref(struct inbox *in);
void inbox_free(struct inbox **in);
/* Takes the command; ERR_CLOSED (and freed) when the loop is gone. */
int inbox_post(struct inbox *in, struct cmd *c);
/* The two halves of inbox_post. */
int inbox_put(struct inbox *in, struct cmd *c);
void inbox_wake(struct inbox *in);
struct cmd *inbox_take(struct inbox *in, bool close);
/* The loop's last word before it waits: asleep, or, if something came meanwhile, woken at once. Loop thread. */
void inbox_sleep(struct inbox *in);
void inbox_woken(struct inbox *in);
/* The loop is up for another reason: posts from now on need no system call. Loop thread. */
void inbox_awake(struct inbox *in);

struct peers;
struct tls;
struct conn_tls;
struct h2_mem;

struct server_limits {
	struct http_callbacks callbacks;
	size_t max_head_bytes;
	unsigned max_headers, max_connections, max_streams;
	int64_t head_timeout_ms, idle_timeout_ms, body_timeout_ms;
	size_t max_buffered;
	atomic_uint connections; /* open ones, over all loops */
	struct peers *peers; /* NULL: not counted */
	struct tls *tls; /* NULL: cleartext */
};

#define WHEEL_SLOTS 256
#define WHEEL_TICK_MS 100

/* Lines of the log for connections that were cut: a few a second, then only their number. */
struct cut_log {
	int64_t second;
	unsigned n, untold;
};

struct io_loop {
	uv_loop_t uv;
	uv_thread_t thread;
	uv_poll_t wake; /* inbox->wake_fd */
	uv_prepare_t before_poll;
	uv_tcp_t listener;
	uv_timer_t tick;
	struct server_limits *limits;
	struct inbox *inbox;
	struct list_node conns, dirty;
	struct list_node wheel[WHEEL_SLOTS];
	size_t in_wheel;
	int64_t next_tick_ms; /* when the wheel's timer should come; while it runs */
	int64_t wheel_now; /* in ticks: slots before it have been looked at */
	bool listening, draining, stopping;
	struct cut_log cuts, surplus;
	struct h2_mem *h2_mem;
	char read_buffer[READ_BUFFER];
	char plain_buffer[PLAIN_BUFFER]; /* one record of TLS */
};
/* Takes listen_fd. */
int loop_start(struct io_loop **ret, struct server_limits *limits, int listen_fd, struct why *why) MUST_USE;
void loop_join(struct io_loop **l);
/* Writes out what the events of this turn produced. */
void loop_flush(struct io_loop *l);

struct conn;

struct proto {
	void (*input)(struct conn *c, const char *bytes, size_t len);
	void (*eof)(struct conn *c);
	void (*command)(struct conn *c, struct http_exchange *x, struct cmd *cmd);
	void (*fill)(struct conn *c); /* puts more into the write queue while there is room; may be NULL */
	void (*expired)(struct conn *c);
	void (*drain)(struct conn *c);
	void (*closed)(struct conn *c); /* the socket is lost: end the exchanges */
	void (*free_state)(struct conn *c);
};

struct conn {
	uv_tcp_t tcp;
	uv_write_t write_req;
	struct io_loop *loop;
	const struct proto *proto; /* NULL while sniffing */
	void *state;
	struct list_node all, dirty, wheel;
	int64_t wheel_at; /* when the wheel will look at it; only while linked */
	int64_t deadline; /* the protocol's; 0: none */
	int64_t send_deadline; /* while bytes wait; 0: none */
	struct byteq out; /* not yet given to libuv; plaintext */
	struct conn_tls *tls; /* NULL: cleartext */
	char *writing; /* what libuv holds, or NULL; of TLS: ciphertext */
	size_t n_writing; /* the bytes of `out` that it stands for */
	uint64_t queued_total, sent_total;
	struct list_node finishing; /* exchanges whose last byte is in `out` */
	struct list_node unsent; /* exchanges with in_conn > 0 */
	size_t n_sniffed, n_discarded;
	bool reading, eof, closing, finish, lingering, only_h1, counted;
	struct in6_addr address;
	char peer[64];
};
/* A connection and its exchanges belong to the thread of their loop; another one would corrupt its lists without a
 * trace. */
#define ENSURE_ON_LOOP(l) ENSURE_THREAD((l)->inbox->thread)
void conn_accept(struct io_loop *l);
void conn_queue(struct conn *c, const void *bytes, size_t len);
void conn_dirty(struct conn *c); /* to be flushed at the end of this turn */
void conn_flush(struct conn *c);
void conn_read(struct conn *c, bool on);
void conn_close(struct conn *c); /* at once */
void conn_finish(struct conn *c); /* after what is queued */
void conn_set_deadline(struct conn *c, int64_t at); /* 0: none */
void conn_expired(struct conn *c, int64_t now); /* from the wheel */
void conn_input(struct conn *c, const char *bytes, size_t len); /* plaintext from the peer */
void conn_eof(struct conn *c);
void conn_took(struct conn *c, size_t n); /* the kernel has n more bytes of `out` */
/* Gives the first n bytes of `q` to libuv; they stand for `counts` bytes of `out`. Only while `writing` is NULL. */
void conn_write_later(struct conn *c, struct byteq *q, size_t n, size_t counts);
/* A line in the log: the connection ends because of its peer. */
void conn_log_cut(struct conn *c, const char *reason);
void conn_over(struct conn *c, struct http_exchange *x); /* over once what is queued now has been sent */
void conn_peer_name(struct conn *c);
void wheel_arm(struct conn *c);
void wheel_remove(struct conn *c);

/* Open connections of each address. Any thread. [any] */
struct peers *peers_new(unsigned max);
void peers_free(struct peers **p);
/* False: this address has its share; nothing was counted. */
bool peers_enter(struct peers *p, const struct in6_addr *address);
void peers_leave(struct peers *p, const struct in6_addr *address);

/* Memory of the HTTP/2 sessions of a loop (h2_mem.c). */
struct h2_mem *h2_mem_new(void);
void h2_mem_free(struct h2_mem **m); /* after its last session */

void h1_open(struct conn *c);
void h2_open(struct conn *c);

#define EXCHANGE_MAGIC 0x68747870u

enum phase { PHASE_NONE, PHASE_STARTED, PHASE_ENDED };

struct http_exchange {
	unsigned magic;
	atomic_uint refs;
	atomic_bool closed; /* the peer is gone or all is sent */
	atomic_int phase; /* of the response, as accepted from the user */
	atomic_bool paused;
	atomic_bool above; /* unsent went over DRAIN_MARK */
	atomic_size_t unsent;
	struct inbox *inbox;

	/* The request; constant once on_head was called. */
	struct strbuf text;
	size_t *offsets; /* name, value, name, … in `text`, until sealed */
	size_t n_headers, cap_offsets, head_bytes;
	struct http_header *headers;
	char *method, *path, *query;
	int version;
	char peer[64];
	struct strbuf body;
	void (*on_free)(void *ctx); /* NULL: nobody wants to hear of it */
	void *on_free_ctx;

	/* Loop thread. */
	struct conn *conn; /* NULL: over */
	void *stream; /* h2 */
	struct http_plan plan;
	struct http_watch watch;
	int64_t body_since_ms; /* WHOLE: when the head was there */
	uint64_t body_bytes; /* that arrived since */
	bool watched, discard, request_done, is_head, over, checked, no_room;
	size_t in_conn; /* bytes of it in the connection's queue */
	uint64_t finish_mark;
	struct list_node finishing, unsent_node;
};
/* Bytes of bodies kept by exchanges, by their weight, of all servers of this process. [any] */
extern atomic_size_t exchange_buffered;
struct http_exchange *exchange_new(struct conn *c, int version);
/* ERR_FULL: too many headers. ERR_TOO_LARGE: too many bytes. */
int exchange_add_header(
    struct http_exchange *x, const char *name, size_t name_len, const char *value, size_t value_len) MUST_USE;
/* Splits the target; ERR_INVALID if it is none. Headers are readable from here on. */
int exchange_seal(struct http_exchange *x, const char *method, const char *target, size_t target_len) MUST_USE;
/* Calls on_head (and what follows from it); `announced`: the content-length, or -1. */
void exchange_head(struct http_exchange *x, int64_t announced);
/* It was answered before its body was there: the rest is thrown away. */
void exchange_discard(struct http_exchange *x);
void exchange_data(struct http_exchange *x, const char *bytes, size_t len);
/* When the rest of a body that is kept (or thrown away) is overdue; `last_ms`: when a piece of it came. INT64_MAX if
 * nothing is awaited. */
int64_t exchange_body_deadline(const struct http_exchange *x, int64_t last_ms);
void exchange_request_done(struct http_exchange *x);
/* Bytes of the exchange are in the connection's queue. */
void exchange_queued(struct http_exchange *x, size_t len);
/* Bytes are gone: sent, or dropped. */
void exchange_release(struct http_exchange *x, size_t len);
/* on_close, and the server's reference goes. */
void exchange_over(struct http_exchange *x);
void exchange_command(struct cmd *cmd);
/* {"error":{"code":…,"message":…}}; malloc'ed. */
char *error_body(const char *code, const char *message);
