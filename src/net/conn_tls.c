/* TLS between the socket of a connection and its protocol. OpenSSL reads straight from the loop's read buffer and
 * writes straight to the socket; only what the socket refuses is kept. An idle connection holds no buffer of ours. */
#include "base/clock.h"
#include "base/mem.h"
#include "net/http_priv.h"
#include "net/tls_priv.h"
#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#define RECORD ((size_t)16 * 1024)
#define PENDING_MAX                                                                                                    \
	((size_t)256 * 1024) /* a peer that makes us answer and does not read, for example to key updates              \
			      */

struct conn_tls {
	SSL *ssl;
	const char *in; /* what the socket gave; only while conn_tls_input runs */
	size_t in_len;
	struct byteq pending; /* ciphertext that the socket refused */
	size_t counts; /* plaintext bytes whose last ciphertext is in `pending` */
	bool ready; /* the handshake is done */
	bool failed; /* nothing more may be asked of OpenSSL */
	bool said_goodbye;
};

static int on_bio_read(BIO *b, char *buf, int len)
{
	struct conn_tls *t = ((struct conn *)BIO_get_data(b))->tls;
	size_t n = MIN((size_t)MAX(len, 0), t->in_len);

	BIO_clear_retry_flags(b);
	if (n == 0) {
		BIO_set_retry_read(b);
		return -1;
	}
	memcpy(buf, t->in, n);
	t->in += n;
	t->in_len -= n;
	return (int)n;
}

/* Takes everything, so that OpenSSL never has to try again. */
static int on_bio_write(BIO *b, const char *bytes, int len)
{
	struct conn *c = BIO_get_data(b);
	struct conn_tls *t = c->tls;
	int n = 0;

	BIO_clear_retry_flags(b);
	if (c->writing == NULL && t->pending.len == 0) {
		uv_buf_t buf = uv_buf_init((char *)(uintptr_t)bytes, (unsigned)len);

		n = uv_try_write((uv_stream_t *)&c->tcp, &buf, 1);
		if (n < 0 && n != UV_EAGAIN)
			return -1;
		n = MAX(n, 0);
	}
	if (t->pending.len + (size_t)(len - n) > PENDING_MAX)
		return -1;
	byteq_add(&t->pending, bytes + n, (size_t)(len - n));
	if (n < len)
		conn_dirty(c);
	return len;
}

static long on_bio_ctrl(BIO *b, int cmd, long num, void *ptr)
{
	return cmd == BIO_CTRL_FLUSH;
}

static BIO_METHOD *socket_method(void)
{
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	static BIO_METHOD *method;

	pthread_mutex_lock(&lock);
	if (method == NULL) {
		method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "loop socket");
		ENSURE(method != NULL && BIO_meth_set_read(method, on_bio_read) == 1 &&
		       BIO_meth_set_write(method, on_bio_write) == 1 && BIO_meth_set_ctrl(method, on_bio_ctrl) == 1);
	}
	pthread_mutex_unlock(&lock);
	return method;
}

int conn_tls_open(struct conn *c)
{
	SSL *ssl = tls_session(c->loop->limits->tls);
	BIO *b = ssl != NULL ? BIO_new(socket_method()) : NULL;

	if (b == NULL) {
		SSL_free(ssl);
		return ERR_FULL;
	}
	c->tls = NEW(struct conn_tls);
	c->tls->ssl = ssl;
	BIO_set_data(b, c);
	BIO_set_init(b, 1);
	SSL_set_bio(ssl, b, b);
	SSL_set_accept_state(ssl);
	return OK;
}

void conn_tls_free(struct conn *c)
{
	struct conn_tls *t = TAKE(c->tls);

	if (t == NULL)
		return;
	SSL_free(t->ssl);
	byteq_fini(&t->pending);
	free(t);
}

/* Whatever alert OpenSSL had to say is written by now. */
static void conn_tls_fail(struct conn *c, int error)
{
	const char *text = ERR_reason_error_string(ERR_peek_error());

	c->tls->failed = true;
	if (error == SSL_ERROR_SSL) {
		conn_log_cut(c, text != NULL ? text : "TLS failed");
		conn_finish(c);
	} else {
		conn_close(c);
	}
	ERR_clear_error();
}

static void conn_tls_handshake(struct conn *c)
{
	struct conn_tls *t = c->tls;
	const unsigned char *proto;
	unsigned len;
	int rc = SSL_do_handshake(t->ssl), error;

	if (rc != 1) {
		error = SSL_get_error(t->ssl, rc);
		if (error != SSL_ERROR_WANT_READ)
			conn_tls_fail(c, error);
		return;
	}
	t->ready = true;
	conn_set_deadline(c, clock_mono_ms() + c->loop->limits->idle_timeout_ms);
	SSL_get0_alpn_selected(t->ssl, &proto, &len);
	if (len == 2)
		h2_open(c);
	/* Nobody who asked for HTTP/1.1 is asked whether it is HTTP/2. */
	c->only_h1 = len > 2;
}

/* False when there is no more for now. */
static bool read_record(struct conn *c)
{
	struct conn_tls *t = c->tls;
	size_t n;
	int error;

	if (SSL_read_ex(t->ssl, c->loop->plain_buffer, sizeof(c->loop->plain_buffer), &n) == 1) {
		conn_input(c, c->loop->plain_buffer, n);
		return true;
	}
	error = SSL_get_error(t->ssl, 0);
	if (error == SSL_ERROR_ZERO_RETURN)
		conn_eof(c);
	else if (error != SSL_ERROR_WANT_READ)
		conn_tls_fail(c, error);
	return false;
}

void conn_tls_input(struct conn *c, const char *bytes, size_t len)
{
	struct conn_tls *t = c->tls;

	/* Nobody reads it: no need to decrypt. */
	if (c->finish || c->lingering) {
		conn_input(c, bytes, len);
		return;
	}
	ERR_clear_error();
	t->in = bytes;
	t->in_len = len;
	if (!t->ready)
		conn_tls_handshake(c);
	while (t->ready && !t->failed && !c->closing && !c->finish && !c->eof && read_record(c))
		;
	t->in = NULL;
	t->in_len = 0;
}

bool conn_tls_pending(const struct conn *c)
{
	return c->tls->pending.len > 0;
}

bool conn_tls_write(struct conn *c)
{
	struct conn_tls *t = c->tls;
	size_t n, counts;

	ERR_clear_error();
	while (c->out.len > 0 && t->pending.len == 0) {
		ENSURE(t->ready);
		if (t->failed || SSL_write_ex(t->ssl, byteq_head(&c->out), MIN(c->out.len, RECORD), &n) != 1) {
			t->failed = true;
			conn_close(c);
			return false;
		}
		byteq_drop(&c->out, n);
		if (t->pending.len == 0)
			conn_took(c, n);
		else
			t->counts = n;
	}
	if (t->pending.len == 0)
		return true;
	counts = t->counts;
	t->counts = 0;
	conn_write_later(c, &t->pending, t->pending.len, counts);
	return false;
}

void conn_tls_goodbye(struct conn *c)
{
	struct conn_tls *t = c->tls;

	if (!t->ready || t->failed || t->said_goodbye)
		return;
	t->said_goodbye = true;
	ERR_clear_error();
	IGNORE(SSL_shutdown(t->ssl));
	ERR_clear_error();
}
