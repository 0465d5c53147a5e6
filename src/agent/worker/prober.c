#include "agent/worker/prober.h"
#include "base/clock.h"
#include "base/mailbox.h"
#include "base/mem.h"
#include "base/pool.h"
#include <poll.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FIRST_MS 2000
#define MOST_MS 60000
#define LOOK_LIMIT_MS 20000
#define PROBER_STACK ((size_t)512 * 1024)

struct prober {
	struct prober_config cfg;
	struct mailbox *wishes; /* of the thread */
	struct mailbox *news; /* of the owner */
	struct mailbox *stopped;
	int cancel_fd; /* readable once the thread is to end */
};

static char look_wish;

void prober_news_free(struct prober_news **np)
{
	struct prober_news *n = TAKE(*np);

	if (n == NULL)
		return;
	free(n->code);
	free(n->reason);
	free(n);
}

static void drop_news(void *msg)
{
	struct prober_news *n = msg;

	prober_news_free(&n);
}

static void tell(struct prober *p, const char *code, const char *reason)
{
	struct prober_news *n = NEW(struct prober_news);

	n->code = str_dup(code);
	n->reason = str_dup(reason);
	if (mailbox_post(p->news, n) != OK)
		prober_news_free(&n);
	else
		p->cfg.wake(p->cfg.ctx);
}

static bool is_cancelled(const struct prober *p)
{
	struct pollfd fd = {p->cancel_fd, POLLIN, 0};

	return poll(&fd, 1, 0) > 0;
}

/* Whether all is well. What a cancelled look found says nothing. */
static bool look_once(struct prober *p)
{
	struct health_report r;
	const struct health_finding *worst;

	health_look(p->cfg.health, p->cancel_fd, clock_mono_ms() + LOOK_LIMIT_MS, &r);
	worst = health_worst(&r, HEALTH_WARN);
	if (!is_cancelled(p))
		tell(p,
		    worst == NULL	  ? ""
		    : worst->code != NULL ? worst->code
					  : "unusable",
		    worst != NULL ? worst->detail : "");
	health_report_fini(&r);
	return worst == NULL;
}

static void prober_main(void *arg)
{
	struct prober *p = arg;
	int64_t next = INT64_MAX, pause = FIRST_MS;
	void *wish;
	int rc;

	/* The first look comes after a pause: what has just failed would fail again. */
	while ((rc = mailbox_receive(p->wishes, next, &wish)) != ERR_CLOSED) {
		if (rc == OK) {
			pause = FIRST_MS;
			next = MIN(next, clock_mono_ms() + pause);
			continue;
		}
		if (look_once(p)) {
			next = INT64_MAX;
			continue;
		}
		pause = MIN(pause * 2, MOST_MS);
		next = clock_mono_ms() + pause;
	}
	IGNORE(mailbox_post_always(p->stopped, p));
}

static void prober_drop(struct prober *p)
{
	mailbox_free(&p->wishes);
	mailbox_free(&p->news);
	mailbox_free(&p->stopped);
	if (p->cancel_fd >= 0)
		close(p->cancel_fd);
	free(p);
}

struct prober *prober_new(const struct prober_config *cfg)
{
	struct prober *p = NEW(struct prober);

	p->cfg = *cfg;
	p->wishes = mailbox_new(4, NULL);
	p->news = mailbox_new(16, drop_news);
	p->stopped = mailbox_new(1, NULL);
	p->cancel_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (p->cancel_fd >= 0 && thread_start("prober", PROBER_STACK, prober_main, p) == OK)
		return p;
	prober_drop(p);
	return NULL;
}

void prober_free(struct prober **pp)
{
	struct prober *p = TAKE(*pp);
	void *end;

	if (p == NULL)
		return;
	IGNORE(eventfd_write(p->cancel_fd, 1));
	mailbox_close(p->wishes);
	IGNORE(mailbox_receive(p->stopped, INT64_MAX, &end));
	prober_drop(p);
}

void prober_look(struct prober *p)
{
	/* A full mailbox holds this wish already. */
	IGNORE(mailbox_post(p->wishes, &look_wish));
}

struct prober_news *prober_take(struct prober *p)
{
	void *msg;

	return mailbox_receive(p->news, 0, &msg) == OK ? msg : NULL;
}
