/* Events of GitHub Apps that did not reach us, while the server was away or busy: GitHub sends an event once, but an
 * app can have it sent again. What was stored before is known by its id, so twice does no harm. */
#include "base/clock.h"
#include "base/log.h"
#include "base/mailbox.h"
#include "base/mem.h"
#include "base/metrics.h"
#include "base/pool.h"
#include "server/triggers/hubs_priv.h"
#include <stdatomic.h>

#define FIRST_MS 10000 /* the listener comes behind us */
#define BACK_MS ((int64_t)24 * 60 * 60 * 1000) /* GitHub itself sends nothing again after three days */
#define ATTEMPTS_MAX 4
#define AT_ONCE_MAX 100
#define CALL_MS 30000

METRIC_COUNTER(redelivered, "bullpen_trigger_redeliveries_total",
    "Failed deliveries of GitHub Apps that were asked for again, by forge and result.", "forge", "result");

struct redeliverer {
	struct triggers *triggers;
	struct mailbox *stop, *gone;
	atomic_bool stopped;
};

static bool is_stopped(void *ctx)
{
	return atomic_load(&((struct redeliverer *)ctx)->stopped);
}

static bool is_swept(const struct forge *f)
{
	return forge_is_app(f) && forge_webhook_secret(f) != NULL;
}

static int ask_again(struct redeliverer *r, struct forge *f, int64_t id, struct why *why)
{
	struct forge_call c = {
	    .forge = f, .repo = "", .deadline_mono_ms = clock_mono_ms() + CALL_MS, .stopped = is_stopped, .ctx = r};
	int rc = forge_redeliver(&c, id);

	*why = c.why;
	return rc;
}

static void sweep_forge(struct redeliverer *r, struct forge *f)
{
	struct forge_call c = {
	    .forge = f, .repo = "", .deadline_mono_ms = clock_mono_ms() + CALL_MS, .stopped = is_stopped, .ctx = r};
	AUTO_JSON failed = NULL;
	const json_t *e;
	struct why why = {0};
	int64_t n = 0;
	size_t i;
	int rc = forge_deliveries_failed(&c, clock_wall_ms() - BACK_MS, ATTEMPTS_MAX, &failed);

	why = c.why;
	json_array_foreach(failed, i, e)
	{
		if (rc != OK || n == AT_ONCE_MAX)
			break;
		if (!hub_event_is_of_use(triggers_settings(r->triggers), json_word(e, "event"), json_word(e, "action")))
			continue;
		rc = ask_again(r, f, json_integer_value(json_object_get(e, "id")), &why);
		metric_add(&redelivered, 1, forge_name(f), rc == OK ? "asked" : "refused");
		n += rc == OK;
		/* One that cannot be sent again does not keep the others. */
		if (rc == ERR_INVALID || rc == ERR_NOT_FOUND)
			rc = OK;
	}
	if (n > 0)
		log_info("trigger.redeliver", "forge=%s events=%lld", log_quote(forge_name(f)), (long long)n);
	if (rc != OK && rc != ERR_CANCELLED)
		log_warn("trigger.redeliver", "forge=%s error=%s", log_quote(forge_name(f)), log_quote(why.text));
}

static char gone_token;

static void redeliver_main(void *arg)
{
	struct redeliverer *r = arg;
	const struct forges *all = triggers_cfg(r->triggers)->forges;
	int64_t every_ms = triggers_settings(r->triggers)->redeliver_s * 1000;
	int64_t next = clock_mono_ms() + MIN(every_ms, (int64_t)FIRST_MS);
	struct mailbox *gone = mailbox_ref(r->gone);
	void *msg;

	while (mailbox_receive(r->stop, next, &msg) == ERR_TIMEOUT) {
		for (size_t i = 0; i < forges_count(all); i++)
			if (is_swept(forges_at(all, i)) && !is_stopped(r))
				sweep_forge(r, forges_at(all, i));
		next = clock_mono_ms() + every_ms;
	}
	/* After this word redeliverer_stop frees `r`. */
	IGNORE(mailbox_post_always(gone, &gone_token));
	mailbox_free(&gone);
}

int redeliverer_start(struct triggers *t, struct redeliverer **ret, struct why *why)
{
	const struct forges *all = triggers_cfg(t)->forges;
	struct redeliverer *r;
	bool any = false;
	int rc;

	for (size_t i = 0; i < forges_count(all); i++)
		any = any || is_swept(forges_at(all, i));
	if (!any || triggers_settings(t)->redeliver_s == 0)
		return OK;
	r = NEW(struct redeliverer);
	r->triggers = t;
	r->stop = mailbox_new(1, NULL);
	r->gone = mailbox_new(1, NULL);
	rc = thread_start("redeliver", 512 * 1024, redeliver_main, r);
	if (rc == OK) {
		*ret = r;
		return OK;
	}
	mailbox_free(&r->stop);
	mailbox_free(&r->gone);
	free(r);
	return why_set(why, rc, "the thread that asks for failed deliveries cannot be started");
}

void redeliverer_stop(struct redeliverer **rp)
{
	struct redeliverer *r = TAKE(*rp);
	void *word;

	if (r == NULL)
		return;
	atomic_store(&r->stopped, true);
	mailbox_close(r->stop);
	ENSURE(mailbox_receive(r->gone, INT64_MAX, &word) == OK);
	mailbox_free(&r->stop);
	mailbox_free(&r->gone);
	free(r);
}
