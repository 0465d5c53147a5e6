/* Certificate and key of the server, and what TLS it speaks. */
#include "base/mem.h"
#include "net/tls_priv.h"
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct tls {
	char *cert_file, *key_file;
	pthread_mutex_t lock;
	SSL_CTX *ctx; /* under the lock; sessions count it themselves */
};

static const char *tls_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	return text != NULL ? text : "unknown reason";
}

/* h2 first; a client that offers only what is not spoken here gets no_application_protocol (RFC 7301). */
static int on_alpn(
    SSL *ssl, const unsigned char **out, unsigned char *out_len, const unsigned char *in, unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *chosen;

	if (SSL_select_next_proto(&chosen, out_len, ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

/* Instead of asking at a terminal that a server does not have. */
static int no_password(char *buf, int size, int writing, void *ctx)
{
	*(bool *)ctx = true;
	return -1;
}

/* A pipe would be waited for without an end, by the thread that waits for signals. */
static int open_file(const char *what, const char *path, FILE **ret, struct stat *st, struct why *why)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);

	if (fd < 0)
		return why_set(why, ERR_IO, "cannot read the %s %s: %s", what, path, strerror(errno));
	if (fstat(fd, st) != 0 || !S_ISREG(st->st_mode)) {
		close(fd);
		return why_set(why, ERR_IO, "cannot read the %s %s: it is not a file", what, path);
	}
	*ret = fdopen(fd, "r");
	ENSURE(*ret != NULL);
	return OK;
}

static int tls_read_key(const char *path, EVP_PKEY **ret, struct why *why)
{
	bool asked = false;
	struct stat st = {0};
	FILE *f = NULL;
	int rc = open_file("TLS key", path, &f, &st, why);

	if (rc != OK)
		return rc;
	ENSURE(f != NULL);
	if ((st.st_mode & S_IRWXO) != 0) {
		fclose(f);
		return why_set(why, ERR_DENIED,
		    "the TLS key %s is open to every user of this machine (mode %03o): chmod o= %s", path,
		    (unsigned)st.st_mode & 0777, path);
	}
	*ret = PEM_read_PrivateKey(f, NULL, no_password, &asked);
	fclose(f);
	if (*ret == NULL && asked)
		return why_set(why, ERR_INVALID, "the TLS key %s has a passphrase: keep it without one", path);
	if (*ret == NULL)
		return why_set(why, ERR_INVALID, "the TLS key %s is not a private key in PEM form", path);
	return OK;
}

static int read_chain(SSL_CTX *ctx, const char *path, struct why *why)
{
	struct stat st = {0};
	FILE *f = NULL;
	int rc = open_file("TLS certificate", path, &f, &st, why);

	if (rc != OK)
		return rc;
	ENSURE(f != NULL);
	fclose(f);
	if (SSL_CTX_use_certificate_chain_file(ctx, path) != 1)
		return why_set(why, ERR_INVALID, "the TLS certificate %s is not a certificate chain in PEM form: %s",
		    path, tls_reason());
	return OK;
}

static int load_files(SSL_CTX *ctx, const struct tls *t, struct why *why)
{
	EVP_PKEY *key = NULL;
	int rc = read_chain(ctx, t->cert_file, why);

	if (rc == OK)
		rc = tls_read_key(t->key_file, &key, why);
	if (rc == OK && (SSL_CTX_use_PrivateKey(ctx, key) != 1 || SSL_CTX_check_private_key(ctx) != 1))
		rc = why_set(why, ERR_INVALID, "the TLS key %s does not belong to the certificate %s", t->key_file,
		    t->cert_file);
	EVP_PKEY_free(key);
	return rc;
}

/* No resumption: a session costs half a millisecond, and tickets would outlive a replaced certificate. */
static SSL_CTX *context_new(void)
{
	static const char ciphers[] = "ECDHE+AESGCM:ECDHE+CHACHA20";
	SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());

	ENSURE(ctx != NULL);
	ENSURE(SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1);
	ENSURE(SSL_CTX_set_cipher_list(ctx, ciphers) == 1);
	SSL_CTX_set_options(ctx, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	SSL_CTX_set_num_tickets(ctx, 0);
	/* An idle connection keeps no record buffers. */
	SSL_CTX_set_mode(
	    ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, NULL);
	return ctx;
}

int tls_reload(struct tls *t, struct why *why)
{
	SSL_CTX *ctx = context_new(), *old;
	int rc;

	ERR_clear_error();
	rc = load_files(ctx, t, why);
	ERR_clear_error();
	if (rc != OK) {
		SSL_CTX_free(ctx);
		return rc;
	}
	pthread_mutex_lock(&t->lock);
	old = t->ctx;
	t->ctx = ctx;
	pthread_mutex_unlock(&t->lock);
	SSL_CTX_free(old);
	return OK;
}

int tls_load(const char *cert_file, const char *key_file, struct tls **ret, struct why *why)
{
	struct tls *t = NEW(struct tls);
	int rc;

	pthread_mutex_init(&t->lock, NULL);
	t->cert_file = str_dup(cert_file);
	t->key_file = str_dup(key_file);
	rc = tls_reload(t, why);
	if (rc == OK)
		*ret = t;
	else
		tls_free(&t);
	return rc;
}

void tls_free(struct tls **tp)
{
	struct tls *t = TAKE(*tp);

	if (t == NULL)
		return;
	SSL_CTX_free(t->ctx);
	pthread_mutex_destroy(&t->lock);
	free(t->cert_file);
	free(t->key_file);
	free(t);
}

SSL *tls_session(struct tls *t)
{
	SSL *ssl;

	pthread_mutex_lock(&t->lock);
	ssl = SSL_new(t->ctx);
	pthread_mutex_unlock(&t->lock);
	return ssl;
}
