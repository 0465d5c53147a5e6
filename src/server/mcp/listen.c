/* Threads that read a stream of a connection: the general one of Streamable HTTP, and the only one of HTTP+SSE. */
#include "base/clock.h"
#include "base/mem.h"
#include "base/pool.h"
#include "server/mcp/conn_priv.h"
#include <string.h>
#include <time.h>

#define STACK ((size_t)512 * 1024)
#define ENDPOINT_MS 10000
#define RETRY_MS 1000
#define RETRY_MAX_MS 30000

static int start_listener(struct conn *c, void (*fn)(void *arg))
{
	int rc;

	pthread_mutex_lock(&c->lock);
	c->listeners++;
	pthread_mutex_unlock(&c->lock);
	rc = thread_start("mcp-listen", STACK, fn, c);
	if (rc != OK) {
		pthread_mutex_lock(&c->lock);
		c->listeners--;
		pthread_mutex_unlock(&c->lock);
	}
	return rc;
}

/* The thread's last word: the connection may be gone after that. */
static void end_listener(struct conn *c)
{
	pthread_mutex_lock(&c->lock);
	c->listeners--;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->lock);
}

static void hear_general(void *arg)
{
	struct conn *c = arg;
	AUTO_STR last_id = NULL;
	int64_t wait = RETRY_MS, retry = -1;

	for (;;) {
		AUTO_FINI(exchange) x;
		int rc;

		exchange_init(&x, c, ASK_STREAM, NULL, c->url);
		x.last_id = str_dup(last_id);
		rc = exchange_do(&x, NULL);
		str_set(&last_id, x.last_id);
		if (x.sse.retry_ms >= 0)
			retry = x.sse.retry_ms;
		/* 405: the server has no such stream. What it says once holds. */
		if (atomic_load(&c->closing) || (rc == OK && !x.streams && x.answer.status / 100 != 5))
			break;
		wait = x.streams ? RETRY_MS : MIN(wait * 2, RETRY_MAX_MS);
		if (!conn_pause(c, NULL, MAX(retry, wait)))
			break;
	}
	end_listener(c);
}

/* One subscription, until its stream ends. Says whether there was one, or may be later. */
static bool subscribe_once(struct conn *c)
{
	AUTO_STR text = mcp_session_subscribe(c->session);
	const struct mcp_out out = {.text = text, .len = strlen(text), .method = "subscriptions/listen"};
	AUTO_FINI(exchange) x;
	int rc;

	exchange_init(&x, c, ASK_MESSAGE, &out, c->url);
	rc = exchange_do(&x, NULL);
	return rc != OK || x.streams || x.answer.status / 100 == 5;
}

/* A stream that broke is lost, and a new one is another subscription: what changed between them is not told. */
static void hear_subscription(void *arg)
{
	struct conn *c = arg;
	int64_t wait = RETRY_MS;

	for (;;) {
		int64_t began = clock_mono_ms();

		if (!subscribe_once(c) || atomic_load(&c->closing))
			break;
		wait = clock_mono_ms() - began > RETRY_MAX_MS ? RETRY_MS : MIN(wait * 2, RETRY_MAX_MS);
		if (!conn_pause(c, NULL, wait))
			break;
		if (c->changed != NULL)
			c->changed(c->changed_ctx);
	}
	end_listener(c);
}

int listen_general(struct conn *c)
{
	return start_listener(c, mcp_session_is_modern(c->session) ? hear_subscription : hear_general);
}

/* Where messages are to be sent. Somewhere else would get our credentials. */
static int take_endpoint(struct exchange *x, const char *event, const char *data)
{
	struct conn *c = x->conn;
	AUTO_STR to = strcmp(event, "endpoint") == 0 ? web_resolve(c->url, data) : NULL;
	bool refused = to == NULL || !web_same_origin(to, c->url);

	if (strcmp(event, "endpoint") != 0)
		return OK;
	pthread_mutex_lock(&c->lock);
	if (c->post_url == NULL && refused)
		snprintf(c->refused, sizeof c->refused, "it wants messages sent to another host, which is refused");
	else if (c->post_url == NULL)
		c->post_url = TAKE(to);
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->lock);
	return refused ? ERR_DENIED : OK;
}

static void hear_legacy(void *arg)
{
	struct conn *c = arg;
	AUTO_FINI(exchange) x;
	struct why why = {0};
	int rc;

	exchange_init(&x, c, ASK_STREAM, NULL, c->url);
	x.on_other = take_endpoint;
	rc = exchange_do(&x, &why);
	if (rc == OK && x.answer.status != 200)
		rc = conn_refusal(&x, &why);
	pthread_mutex_lock(&c->lock);
	if (c->post_url == NULL && c->refused[0] == '\0')
		snprintf(
		    c->refused, sizeof c->refused, "%.200s", why.text[0] != '\0' ? why.text : "it told no endpoint");
	c->unauthorized = rc == ERR_UNAUTHORIZED;
	c->no_stream = rc == OK || rc == ERR_NET;
	pthread_cond_broadcast(&c->cond);
	pthread_mutex_unlock(&c->lock);
	atomic_store(&c->over, true);
	mcp_session_close(c->session, "the server has ended the connection");
	end_listener(c);
}

int listen_legacy(struct conn *c, const atomic_bool *stop, struct why *why)
{
	int64_t until = clock_mono_ms() + ENDPOINT_MS;
	int rc = start_listener(c, hear_legacy);
	bool there;

	if (rc != OK)
		return why_set(why, rc, "this server has no thread left");
	pthread_mutex_lock(&c->lock);
	while (c->post_url == NULL && c->refused[0] == '\0' && clock_mono_ms() < until &&
	       (stop == NULL || !atomic_load(stop))) {
		int64_t slice = MIN(until, clock_mono_ms() + 200);
		struct timespec ts = {.tv_sec = slice / 1000, .tv_nsec = slice % 1000 * 1000000};

		pthread_cond_timedwait(&c->cond, &c->lock, &ts);
	}
	there = c->post_url != NULL;
	if (!there)
		rc = why_set(why,
		    c->unauthorized			     ? ERR_UNAUTHORIZED
		    : c->refused[0] != '\0' && !c->no_stream ? ERR_DENIED
							     : ERR_NOT_FOUND,
		    "%s", c->refused[0] != '\0' ? c->refused : "it told no endpoint within 10 s");
	pthread_mutex_unlock(&c->lock);
	return rc;
}
