#include "agent/controller/controller.h"
#include "agent/controller/controller_priv.h"
#include "base/clock.h"
#include "base/id.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/pool.h"
#include "base/terminal.h"
#include "net/http_client.h"
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#define INBOX_BOUND 10000
#define RELIST_AGAIN_MS 1000
#define RELIST_AGAIN_MAX_MS 60000
#define LASTED_MS 10000 /* a watch that was one */
#define STOP_MS 3000 /* a call may be under way, and its answer may never come */

void event_free(void *p)
{
	struct event *e = p;

	json_decref(e->request);
	free(e->id);
	free(e->worker_id);
	free(e->text);
	free(e);
}

void controller_fail(struct controller *c, int status, const char *fmt, ...)
{
	AUTO_STR text = NULL;
	va_list ap;

	if (c->ended)
		return;
	va_start(ap, fmt);
	text = str_vprintf(fmt, ap);
	va_end(ap);
	AUTO_STR clean = terminal_clean(text, TERMINAL_LINE);

	fprintf(stderr, "error: %s\n", clean);
	c->exit_status = status;
	c->ended = true;
}

bool controller_is_refused(struct controller *c, const struct reply *r, const char *what)
{
	if (r->status != 401 && r->status != 403)
		return c->ended;
	controller_fail(c, EXIT_CREDENTIAL, "%s: the control plane does not accept the credential: %s", what, r->text);
	return true;
}

/* When each filter is listed again; INT64_MAX: its watch runs, since began_ms. */
struct lists {
	int64_t due_ms[STREAMS_MAX];
	int64_t delay_ms[STREAMS_MAX];
	int64_t began_ms[STREAMS_MAX];
	size_t n;
};

static const char *pool_at(const struct controller *c, size_t i)
{
	return c->o.n_pools > 0 && c->o.n_pools <= STREAMS_MAX ? c->o.pools[i] : NULL;
}

/* Of more pools than there may be streams one stream tells, together with others. */
static bool is_ours(const struct controller *c, const json_t *request)
{
	const char *pool = request_pool(request);
	bool ours = c->o.n_pools == 0;

	for (size_t i = 0; i < c->o.n_pools && !ours; i++)
		ours = strcmp(c->o.pools[i], pool) == 0;
	return ours;
}

/* In warm mode what waits is of no interest, only that it changes. */
static void hear_request(struct controller *c, const json_t *request, bool listed)
{
	if (c->o.warm_idle == 0 && is_ours(c, request))
		claims_take(c, request, listed);
}

static void hear_listed(struct controller *c, const json_t *request)
{
	hear_request(c, request, true);
}

/* Spread, so that many controllers do not come together. */
static int64_t spread(int64_t delay_ms)
{
	return delay_ms / 2 + (int64_t)(id_random64() % (uint64_t)(delay_ms / 2));
}

static int64_t list_due(struct controller *c, struct lists *l, int64_t now_ms)
{
	int64_t next = INT64_MAX;

	for (size_t i = 0; i < l->n && !c->ended; i++) {
		if (l->due_ms[i] <= now_ms) {
			bool ok = watch_list(c, pool_at(c, i), hear_listed);

			l->began_ms[i] = clock_mono_ms();
			if (!ok)
				l->delay_ms[i] = MIN(l->delay_ms[i] * 2, RELIST_AGAIN_MAX_MS);
			l->due_ms[i] = ok ? INT64_MAX : l->began_ms[i] + spread(l->delay_ms[i]);
		}
		next = MIN(next, l->due_ms[i]);
	}
	return next;
}

/* A watch that ends soon will do so again: it was refused, or is none. */
static void relist_one(struct lists *l, size_t i, int64_t now_ms)
{
	bool lasted = now_ms - l->began_ms[i] >= LASTED_MS;

	l->delay_ms[i] = lasted ? RELIST_AGAIN_MS : MIN(l->delay_ms[i] * 2, RELIST_AGAIN_MAX_MS);
	l->due_ms[i] = now_ms + spread(l->delay_ms[i]);
}

static void relist(struct controller *c, struct lists *l, const char *pool)
{
	for (size_t i = 0; i < l->n; i++)
		if ((pool == NULL && pool_at(c, i) == NULL) || (pool != NULL && strcmp(pool, pool_at(c, i)) == 0))
			relist_one(l, i, clock_mono_ms());
}

/* True: the idle workers are worth a look. */
static bool handle(struct controller *c, struct lists *l, struct event *e)
{
	bool look = false;

	switch (e->kind) {
	case EVENT_UPSERT:
		hear_request(c, e->request, false);
		break;
	case EVENT_REMOVE:
		claims_drop(c, e->id, e->claimed);
		look = true;
		break;
	case EVENT_RELIST:
		relist(c, l, e->id);
		break;
	case EVENT_HOOK_ENDED:
		c->hooks--;
		if (c->o.warm_idle > 0)
			warm_hook_ended(c, e->id, e->status, e->text);
		else
			claims_hook_ended(c, e);
		break;
	case EVENT_STOP:
		log_info("controller.stop", "hooks=%u", c->hooks);
		c->ended = true;
		break;
	}
	event_free(e);
	return look;
}

/* The loop ends the process; a second signal, or some time, does it without. */
static void signal_thread(void *arg)
{
	const struct timespec limit = {.tv_sec = STOP_MS / 1000};
	struct mailbox *inbox = arg;
	struct event *e = NEW(struct event);
	sigset_t set;
	int sig;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	IGNORE(sigwait(&set, &sig));
	e->kind = EVENT_STOP;
	if (mailbox_post_always(inbox, e) != OK)
		event_free(e);
	IGNORE(sigtimedwait(&set, NULL, &limit));
	log_info("controller.stop", "reason=\"the control plane has not answered\"");
	_exit(EXIT_DONE);
}

/* Before the first thread: all of them leave the signals to the one that waits for them. */
static void take_signals(struct mailbox *inbox)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGHUP, SIG_IGN);
	ENSURE(thread_start("signals", 64 * 1024, signal_thread, mailbox_ref(inbox)) == OK);
}

/* So that an empty pool can be chosen before its first worker has come. */
static bool register_pools(struct controller *c)
{
	for (size_t i = 0; i < c->o.n_pools; i++) {
		AUTO_JSON body = json_pack("{s:s, s:s}", "scope", "team", "poolName", c->o.pools[i]);
		__attribute__((cleanup(reply_fini))) struct reply r = {0};

		fleet_api(&c->o, "POST", "/v0/private-workers/pools", body, &r);
		if (controller_is_refused(c, &r, "registering a pool"))
			return true;
		if (r.status == 0 || r.status >= 500 || r.status == 429) {
			log_warn("controller.pools.failed", "http=%d reason=%s", r.status, log_quote(r.text));
			return false;
		}
		if (r.status != 200)
			controller_fail(c, r.status == 400 ? EXIT_USAGE : EXIT_FAILED, "registering pool %s: %s",
			    c->o.pools[i], r.text);
	}
	return true;
}

static void work(struct controller *c)
{
	struct lists l = {.n = c->o.n_pools <= STREAMS_MAX ? MAX(c->o.n_pools, 1) : 1};
	int64_t register_ms = 0;
	bool registered = false, look = false;

	for (size_t i = 0; i < l.n; i++)
		l.delay_ms[i] = RELIST_AGAIN_MS;
	while (!c->ended) {
		int64_t now = clock_mono_ms(), next;
		void *e = NULL;

		if (!registered && now >= register_ms) {
			registered = register_pools(c);
			register_ms = now + RELIST_AGAIN_MS * 2;
		}
		next = registered ? list_due(c, &l, now) : register_ms;
		if (registered && !c->ended)
			next = MIN(next, c->o.warm_idle > 0 ? warm_tick(c, now, look) : claims_tick(c, now));
		if (c->ended)
			break;
		look = mailbox_receive(c->inbox, next, &e) == OK && handle(c, &l, e);
	}
}

int controller_main(int argc, char **argv)
{
	struct controller c = {0};
	struct why why = {""};
	int rc = controller_options_parse(argc, argv, &c.o, &why);

	if (rc != OK) {
		AUTO_STR clean = terminal_clean(why.text, TERMINAL_LINE);

		controller_options_fini(&c.o);
		if (rc == ERR_EMPTY)
			return EXIT_DONE;
		fprintf(stderr, "error: %s\n", clean);
		return rc == ERR_UNAUTHORIZED ? EXIT_CREDENTIAL : EXIT_USAGE;
	}
	id_init();
	http_client_init();
	c.inbox = mailbox_new(INBOX_BOUND, event_free);
	c.requests = map_new();
	c.starting = map_new();
	take_signals(c.inbox);
	log_info("controller.start", "mode=%s pools=%zu endpoint=%s", c.o.warm_idle > 0 ? "warm" : "claim", c.o.n_pools,
	    log_quote(c.o.endpoint));
	work(&c);
	/* Threads of watches and hooks still use the options and the inbox: the process ends with them, and what the
	 * hooks have started goes on. */
	fflush(stdout);
	_exit(c.exit_status);
}
