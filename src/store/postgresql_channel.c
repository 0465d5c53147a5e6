/* Words between the nodes of one database: LISTEN and NOTIFY on a connection and a thread of their own. A word is a
 * hint; what was missed while there was no connection is told as one NULL. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/strbuf.h"
#include "store/postgresql_priv.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define PAYLOAD_MAX 7900 /* PostgreSQL takes 8000 bytes less one */
#define WAITING_MAX 20000
#define AGAIN_MS 1000
#define ANSWER_MS 10000

struct db_channel {
	char *place;
	store_channel_fn *fn;
	void *ctx;
	pthread_t thread;
	int wake; /* an eventfd */
	atomic_bool stop;
	pthread_mutex_t mtx; /* a leaf; guards what follows */
	char **waiting;
	size_t n, cap;
};

static void wake(struct db_channel *c)
{
	uint64_t one = 1;

	IGNORE((int)write(c->wake, &one, sizeof one));
}

void pg_channel_send(struct db_channel *c, const char *text)
{
	bool first = false, repeated = false;

	pthread_mutex_lock(&c->mtx);
	/* The same word comes many times in a row while a run writes. */
	for (size_t i = c->n; i > 0 && i + 16 > c->n && !repeated; i--)
		repeated = strcmp(c->waiting[i - 1], text) == 0;
	if (!repeated && c->n < WAITING_MAX) {
		first = c->n == 0;
		c->waiting = mem_grow(c->waiting, &c->cap, c->n + 1, sizeof *c->waiting);
		c->waiting[c->n++] = str_dup(text);
	}
	pthread_mutex_unlock(&c->mtx);
	if (first)
		wake(c);
}

/* False: the connection is of no use any more. */
static bool ask(PGconn *conn, const char *sql, const char *value)
{
	int64_t until = clock_mono_ms() + ANSWER_MS;
	PGresult *res;
	bool ok = PQsendQueryParams(conn, sql, value != NULL, NULL, &value, NULL, NULL, 0) == 1;

	while (ok && PQisBusy(conn)) {
		struct pollfd p = {.fd = PQsocket(conn), .events = POLLIN};
		int64_t left = until - clock_mono_ms();

		ok = left > 0 && (poll(&p, 1, (int)left) > 0 || errno == EINTR) && PQconsumeInput(conn) == 1;
	}
	while (ok && (res = PQgetResult(conn)) != NULL) {
		ok = PQresultStatus(res) == PGRES_TUPLES_OK || PQresultStatus(res) == PGRES_COMMAND_OK;
		PQclear(res);
	}
	return ok;
}

/* All that waits, several words to a notification. */
static bool send_waiting(struct db_channel *c, PGconn *conn)
{
	AUTO_FINI(strbuf) payload = STRBUF(PAYLOAD_MAX);
	char **words;
	size_t n;
	bool ok = true;

	pthread_mutex_lock(&c->mtx);
	words = TAKE(c->waiting);
	n = c->n;
	c->n = c->cap = 0;
	pthread_mutex_unlock(&c->mtx);
	for (size_t i = 0; i < n; i++) {
		if (payload.len > 0 && payload.len + strlen(words[i]) + 1 > PAYLOAD_MAX) {
			ok = ok && ask(conn, "SELECT pg_notify('bullpen', $1)", strbuf_str(&payload));
			strbuf_clear(&payload);
		}
		if (strlen(words[i]) < PAYLOAD_MAX) {
			strbuf_adds(&payload, words[i]);
			strbuf_addc(&payload, '\n');
		}
		free(words[i]);
	}
	free(words);
	return payload.len == 0 || (ok && ask(conn, "SELECT pg_notify('bullpen', $1)", strbuf_str(&payload)));
}

static void hear(struct db_channel *c, char *words)
{
	char *rest = NULL;

	for (char *word = strtok_r(words, "\n", &rest); word != NULL; word = strtok_r(NULL, "\n", &rest))
		c->fn(c->ctx, word);
}

static void hear_all(struct db_channel *c, PGconn *conn)
{
	PGnotify *n;

	while ((n = PQnotifies(conn)) != NULL) {
		if (n->be_pid != PQbackendPID(conn))
			hear(c, n->extra);
		PQfreemem(n);
	}
}

static void rest(struct db_channel *c, int sock, int ms)
{
	struct pollfd p[2] = {{.fd = c->wake, .events = POLLIN}, {.fd = sock, .events = POLLIN}};
	uint64_t n;

	if (poll(p, sock >= 0 ? 2 : 1, ms) > 0 && (p[0].revents & POLLIN) != 0)
		IGNORE((int)read(c->wake, &n, sizeof n));
}

static PGconn *listen_again(struct db_channel *c)
{
	PGconn *conn = pg_open_plain(c->place, NULL);

	if (conn != NULL && !ask(conn, "LISTEN bullpen", NULL))
		PQfinish(TAKE(conn));
	if (conn != NULL)
		c->fn(c->ctx, NULL);
	return conn;
}

static void *channel_main(void *arg)
{
	struct db_channel *c = arg;
	PGconn *conn = NULL;

	while (!atomic_load(&c->stop)) {
		if (conn == NULL && (conn = listen_again(c)) == NULL) {
			rest(c, -1, AGAIN_MS);
			continue;
		}
		rest(c, PQsocket(conn), AGAIN_MS);
		if (PQconsumeInput(conn) != 1 || !send_waiting(c, conn)) {
			log_warn("store.channel.lost", "effect=\"nodes hear of each other's changes later until it is "
						       "back\"");
			PQfinish(TAKE(conn));
			continue;
		}
		hear_all(c, conn);
	}
	PQfinish(conn);
	return NULL;
}

int pg_channel_open(const char *place, store_channel_fn *fn, void *ctx, struct db_channel **ret)
{
	struct db_channel *c = NEW(struct db_channel);

	c->place = str_dup(place);
	c->fn = fn;
	c->ctx = ctx;
	c->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pthread_mutex_init(&c->mtx, NULL);
	if (c->wake >= 0 && pthread_create(&c->thread, NULL, channel_main, c) == 0) {
		*ret = c;
		return OK;
	}
	if (c->wake >= 0)
		close(c->wake);
	pthread_mutex_destroy(&c->mtx);
	free(c->place);
	free(c);
	return ERR_INTERNAL;
}

void pg_channel_close(struct db_channel **cp)
{
	struct db_channel *c = TAKE(*cp);

	if (c == NULL)
		return;
	atomic_store(&c->stop, true);
	wake(c);
	pthread_join(c->thread, NULL);
	for (size_t i = 0; i < c->n; i++)
		free(c->waiting[i]);
	free(c->waiting);
	close(c->wake);
	pthread_mutex_destroy(&c->mtx);
	free(c->place);
	free(c);
}
