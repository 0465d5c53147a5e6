/* A socket of the server: which protocol it speaks, its write queue, how it ends. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "net/http_priv.h"
#include "net/tls_priv.h"
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>

#define WRITE_CHUNK ((size_t)64 * 1024)
#define KEEPALIVE_S 60
#define CUT_LINES_PER_S 20

static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define PREFACE_LEN (sizeof(preface) - 1)

void conn_peer_name(struct conn *c)
{
	struct sockaddr_storage ss;
	int len = sizeof(ss);
	char ip[INET6_ADDRSTRLEN] = "";

	memcpy(c->peer, "unknown", sizeof("unknown"));
	if (uv_tcp_getpeername(&c->tcp, (struct sockaddr *)&ss, &len) != 0)
		return;
	if (ss.ss_family == AF_INET) {
		struct sockaddr_in *a = (struct sockaddr_in *)&ss;

		uv_ip4_name(a, ip, sizeof(ip));
		c->address.s6_addr[10] = c->address.s6_addr[11] = 0xff;
		memcpy(&c->address.s6_addr[12], &a->sin_addr, 4);
		snprintf(c->peer, sizeof(c->peer), "%s:%u", ip, ntohs(a->sin_port));
	} else if (ss.ss_family == AF_INET6) {
		struct sockaddr_in6 *a = (struct sockaddr_in6 *)&ss;

		uv_ip6_name(a, ip, sizeof(ip));
		c->address = a->sin6_addr;
		snprintf(c->peer, sizeof(c->peer), "[%s]:%u", ip, ntohs(a->sin6_port));
	}
}

/* Bytes left for the socket; what each exchange has among them can be no more. */
static void account_sent(struct conn *c)
{
	size_t rest = c->out.len + c->n_writing;
	struct list_node *next;

	for (struct list_node *n = c->unsent.next; n != &c->unsent; n = next) {
		struct http_exchange *x = NODE_OF(http_exchange, unsent_node, n);
		size_t gone = x->in_conn > rest ? x->in_conn - rest : 0;

		next = n->next;
		x->in_conn -= gone;
		if (x->in_conn == 0)
			node_unlink(n);
		exchange_release(x, gone);
	}
	while (!node_empty(&c->finishing)) {
		struct http_exchange *x = NODE_OF(http_exchange, finishing, c->finishing.next);

		if (x->finish_mark > c->sent_total)
			break;
		exchange_over(x);
	}
}

void conn_over(struct conn *c, struct http_exchange *x)
{
	x->finish_mark = c->queued_total;
	node_unlink(&x->finishing);
	node_append(&c->finishing, &x->finishing);
	conn_dirty(c);
}

void conn_queue(struct conn *c, const void *bytes, size_t len)
{
	ENSURE_ON_LOOP(c->loop);
	byteq_add(&c->out, bytes, len);
	c->queued_total += len;
	conn_dirty(c);
}

void conn_dirty(struct conn *c)
{
	ENSURE_ON_LOOP(c->loop);
	if (!c->closing && node_empty(&c->dirty))
		node_append(&c->loop->dirty, &c->dirty);
}

void conn_took(struct conn *c, size_t n)
{
	ENSURE_ON_LOOP(c->loop);
	c->sent_total += n;
	c->send_deadline = 0;
}

static void on_written(uv_write_t *req, int status)
{
	struct conn *c = req->data;

	free(TAKE(c->writing));
	conn_took(c, c->n_writing);
	c->n_writing = 0;
	if (c->closing)
		return;
	if (status != 0)
		conn_close(c);
	else
		conn_dirty(c);
	loop_flush(c->loop);
}

/* The socket is full: libuv keeps one piece and says when it is gone. */
void conn_write_later(struct conn *c, struct byteq *q, size_t n, size_t counts)
{
	uv_buf_t buf;

	c->n_writing = counts;
	c->writing = mem_dup(byteq_head(q), n);
	byteq_drop(q, n);
	buf = uv_buf_init(c->writing, (unsigned)n);
	c->write_req.data = c;
	if (uv_write(&c->write_req, (uv_stream_t *)&c->tcp, &buf, 1, on_written) != 0) {
		free(TAKE(c->writing));
		c->n_writing = 0;
		conn_close(c);
	}
}

/* False when the socket takes no more, or is lost. */
static bool write_now(struct conn *c)
{
	if (c->tls != NULL)
		return conn_tls_write(c);
	while (c->out.len > 0) {
		uv_buf_t buf = uv_buf_init((char *)byteq_head(&c->out), (unsigned)MIN(c->out.len, 1u << 20));
		int n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);

		if (n == UV_EAGAIN) {
			size_t piece = MIN(c->out.len, WRITE_CHUNK);

			conn_write_later(c, &c->out, piece, piece);
			return false;
		}
		if (n < 0) {
			conn_close(c);
			return false;
		}
		byteq_drop(&c->out, (size_t)n);
		conn_took(c, (size_t)n);
	}
	return true;
}

static void start_lingering(struct conn *c)
{
	uv_os_fd_t fd;

	if (c->eof) {
		conn_close(c);
		return;
	}
	/* Closing with unread input would reset the connection and may destroy the response on its way. */
	c->lingering = true;
	if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
		shutdown(fd, SHUT_WR);
	conn_read(c, true);
	conn_set_deadline(c, clock_mono_ms() + LINGER_MS);
}

static bool wants_write(const struct conn *c)
{
	return c->out.len > 0 || (c->tls != NULL && conn_tls_pending(c));
}

void conn_flush(struct conn *c)
{
	ENSURE_ON_LOOP(c->loop);
	while (!c->closing && c->writing == NULL) {
		if (c->proto != NULL && c->proto->fill != NULL && !c->lingering)
			c->proto->fill(c);
		if (c->tls != NULL && c->finish && c->out.len == 0)
			conn_tls_goodbye(c);
		if (!wants_write(c) || !write_now(c))
			break;
	}
	if (c->closing)
		return;
	node_unlink(&c->dirty);
	account_sent(c);
	if (c->writing != NULL || wants_write(c)) {
		if (c->send_deadline == 0)
			c->send_deadline = clock_mono_ms() + SEND_STALL_MS;
		wheel_arm(c);
	} else if (c->finish && !c->lingering) {
		start_lingering(c);
	}
}

void conn_finish(struct conn *c)
{
	ENSURE_ON_LOOP(c->loop);
	c->finish = true;
	c->deadline = 0;
	conn_dirty(c);
}

static void conn_on_closed(uv_handle_t *h)
{
	struct conn *c = h->data;

	if (c->proto != NULL)
		c->proto->free_state(c);
	atomic_fetch_sub(&c->loop->limits->connections, 1);
	if (c->counted)
		peers_leave(c->loop->limits->peers, &c->address);
	conn_tls_free(c);
	free(c->writing);
	byteq_fini(&c->out);
	free(c);
}

void conn_close(struct conn *c)
{
	ENSURE_ON_LOOP(c->loop);
	if (c->closing)
		return;
	c->closing = true;
	wheel_remove(c);
	node_unlink(&c->all);
	node_unlink(&c->dirty);
	if (c->proto != NULL)
		c->proto->closed(c);
	while (!node_empty(&c->finishing))
		exchange_over(NODE_OF(http_exchange, finishing, c->finishing.next));
	if (c->tls != NULL)
		conn_tls_goodbye(c);
	uv_close((uv_handle_t *)&c->tcp, conn_on_closed);
}

void conn_set_deadline(struct conn *c, int64_t at)
{
	ENSURE_ON_LOOP(c->loop);
	c->deadline = at;
	wheel_arm(c);
}

void conn_expired(struct conn *c, int64_t now)
{
	ENSURE_ON_LOOP(c->loop);
	if (c->send_deadline != 0 && now >= c->send_deadline) {
		conn_log_cut(c, "what is sent is not taken");
		conn_close(c);
		return;
	}
	if (c->deadline != 0 && now >= c->deadline) {
		c->deadline = 0;
		if (c->lingering || c->proto == NULL)
			conn_close(c);
		else
			c->proto->expired(c);
	}
	wheel_arm(c);
}

/* One byte at a time is fine: what matched so far is replayed into the protocol that it turns out to be. */
static void conn_sniff(struct conn *c, const char *bytes, size_t len)
{
	size_t n = 0, before = c->n_sniffed;

	if (c->only_h1) {
		h1_open(c);
		c->proto->input(c, bytes, len);
		return;
	}
	while (n < len && before + n < PREFACE_LEN && bytes[n] == preface[before + n])
		n++;
	c->n_sniffed += n;
	if (n == len && c->n_sniffed < PREFACE_LEN) {
		if (before == 0)
			conn_set_deadline(c, clock_mono_ms() + c->loop->limits->head_timeout_ms);
		return;
	}
	if (c->n_sniffed == PREFACE_LEN)
		h2_open(c);
	else
		h1_open(c);
	c->proto->input(c, preface, c->n_sniffed);
	if (n < len && !c->closing)
		c->proto->input(c, bytes + n, len - n);
}

void conn_input(struct conn *c, const char *bytes, size_t len)
{
	if (c->lingering || c->finish) {
		c->n_discarded += len;
		if (c->n_discarded > LINGER_BYTES)
			conn_close(c);
	} else if (c->proto == NULL) {
		conn_sniff(c, bytes, len);
	} else {
		c->proto->input(c, bytes, len);
	}
}

static void on_alloc(uv_handle_t *h, size_t suggested, uv_buf_t *buf)
{
	struct conn *c = h->data;

	*buf = uv_buf_init(c->loop->read_buffer, READ_BUFFER);
}

void conn_eof(struct conn *c)
{
	c->eof = true;
	conn_read(c, false);
	if (c->lingering || c->proto == NULL)
		conn_close(c);
	else if (!c->finish)
		c->proto->eof(c);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *buf)
{
	struct conn *c = s->data;
	struct io_loop *l = c->loop;

	inbox_awake(l->inbox);
	if (n > 0 && c->tls != NULL) {
		conn_tls_input(c, buf->base, (size_t)n);
	} else if (n > 0) {
		conn_input(c, buf->base, (size_t)n);
	} else if (n == UV_EOF) {
		conn_eof(c);
	} else if (n < 0) {
		conn_close(c);
	}
	loop_flush(l);
}

void conn_read(struct conn *c, bool on)
{
	ENSURE_ON_LOOP(c->loop);
	if (on == c->reading || c->closing || (on && c->eof))
		return;
	c->reading = on;
	if (on)
		IGNORE(uv_read_start((uv_stream_t *)&c->tcp, on_alloc, on_read));
	else
		uv_read_stop((uv_stream_t *)&c->tcp);
}

static bool may_log(struct cut_log *log, unsigned per_second)
{
	int64_t second = clock_mono_ms() / 1000;

	if (log->second != second) {
		log->second = second;
		log->n = 0;
	}
	if (log->n++ < per_second)
		return true;
	log->untold++;
	return false;
}

static unsigned take_count(unsigned *n)
{
	unsigned value = *n;

	*n = 0;
	return value;
}

void conn_log_cut(struct conn *c, const char *reason)
{
	if (may_log(&c->loop->cuts, CUT_LINES_PER_S))
		log_info("http.cut", "peer=%s reason=%s more=%u", c->peer, log_quote(reason),
		    take_count(&c->loop->cuts.untold));
}

static void conn_set_options(struct conn *c)
{
	unsigned timeout = SEND_STALL_MS;
	uv_os_fd_t fd;

	uv_tcp_nodelay(&c->tcp, 1);
	uv_tcp_keepalive(&c->tcp, 1, KEEPALIVE_S);
	/* A peer whose machine is gone acknowledges nothing: that is noticed without a word from us. */
	if (uv_fileno((uv_handle_t *)&c->tcp, &fd) == 0)
		IGNORE(setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &timeout, sizeof(timeout)));
}

/* NULL: it may stay. */
static const char *surplus(struct conn *c)
{
	struct server_limits *lim = c->loop->limits;

	if (atomic_fetch_add(&lim->connections, 1) >= lim->max_connections)
		return "max_connections";
	if (lim->peers == NULL)
		return NULL;
	c->counted = peers_enter(lim->peers, &c->address);
	return c->counted ? NULL : "max_connections_per_peer";
}

/* Over the limit it must be accepted all the same, or it would stay in the kernel's queue. */
void conn_accept(struct io_loop *l)
{
	struct conn *c = NEW(struct conn);
	bool accepted;
	const char *limit;

	ENSURE(uv_tcp_init(&l->uv, &c->tcp) == 0);
	c->tcp.data = c;
	c->loop = l;
	node_init(&c->dirty);
	node_init(&c->wheel);
	node_init(&c->finishing);
	node_init(&c->unsent);
	node_append(&l->conns, &c->all);
	accepted = uv_accept((uv_stream_t *)&l->listener, (uv_stream_t *)&c->tcp) == 0;
	if (accepted)
		conn_peer_name(c);
	limit = surplus(c);
	if (limit != NULL && may_log(&l->surplus, 1))
		log_warn("http.surplus", "peer=%s limit=%s more=%u", c->peer, limit, take_count(&l->surplus.untold));
	if (!accepted || limit != NULL || (l->limits->tls != NULL && conn_tls_open(c) != OK)) {
		conn_close(c);
		return;
	}
	conn_set_options(c);
	conn_read(c, true);
	conn_set_deadline(
	    c, clock_mono_ms() + (c->tls != NULL ? l->limits->head_timeout_ms : l->limits->idle_timeout_ms));
}
