/* net/tls_priv.h: TLS of the server: its certificate (tls.c) and the layer of one connection (conn_tls.c). */
#pragma once
#include "base/errors.h"
#include <openssl/types.h>

struct conn;

/* Certificate and key of a server, replaceable. */
struct tls;
int tls_load(const char *cert_file, const char *key_file, struct tls **ret, struct why *why) MUST_USE;
/* Reads both files again; on failure what was loaded stays. [any] */
int tls_reload(struct tls *t, struct why *why) MUST_USE;
void tls_free(struct tls **t);
/* A new session with what is loaded now; the caller's. NULL if OpenSSL has no memory. [any] */
SSL *tls_session(struct tls *t);

/* The rest: loop thread. */
int conn_tls_open(struct conn *c) MUST_USE;
void conn_tls_free(struct conn *c);
/* Takes ciphertext, hands plaintext to conn_input. */
void conn_tls_input(struct conn *c, const char *bytes, size_t len);
/* Encrypts `out` and writes; false when the socket takes no more, or is lost. */
bool conn_tls_write(struct conn *c);
/* Ciphertext is left that conn_tls_write must write, even if `out` is empty. */
bool conn_tls_pending(const struct conn *c);
/* Says close_notify, once, if the connection is in a state for it. */
void conn_tls_goodbye(struct conn *c);
