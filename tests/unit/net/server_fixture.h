/* A real server on a port of the kernel's choice, with a handler whose paths say what they do, and a raw client. */
#pragma once
#include "base/clock.h"
#include "base/errors.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/strbuf.h"
#include "net/http_server.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <string.h>
#include <cmocka.h>

struct fixture {
	struct http_server *server;
	struct pool *pool;
	uint16_t port;
	atomic_int requests, watches, closes, too_large, drains;
	atomic_size_t streamed; /* bytes of STREAM bodies */
	_Atomic(struct http_exchange *) held; /* of /hold: answered by the test itself */
};

struct fixture *fixture_new(const struct http_server_config *overrides);
/* Also checks that every watched exchange heard on_close exactly once. */
void fixture_free(struct fixture **f);
/* Waits until *counter >= want, at most ten seconds. */
void wait_for(atomic_int *counter, int want);
void wait_for_size(atomic_size_t *counter, size_t want);

int raw_connect(const struct fixture *f);
void raw_send(int fd, const void *bytes, size_t len);
void raw_sends(int fd, const char *text);
/* Reads until `until` was seen or the peer closed; malloc'ed text of all. */
char *raw_read(int fd, const char *until);
/* Reads until the peer closes. */
char *raw_read_all(int fd);
/* Sends, reads to the end, closes. */
char *raw_talk(const struct fixture *f, const char *request);
