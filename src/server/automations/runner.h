/* automations/runner.h: what makes automations happen: a thread that looks which are due, processors that make the
 * agents (the outbox), and the way in for webhooks.
 *
 * A time that came while nobody looked (the server was away) and is more than ON_TIME_MS ago is missed: it is in the
 * automation's history, and with missed = "once" the last one is made up for. Threads: start and end of the server;
 * automations_receive from any (handlers). */
#pragma once
#include "base/seal.h"
#include "server/api/inside.h"

#define AUTOMATION_ON_TIME_MS ((int64_t)5 * 60 * 1000)
#define AUTOMATION_WEBHOOK_BODY_MAX ((size_t)1024 * 1024)
#define AUTOMATION_CLOCK_MS ((int64_t)300 * 1000) /* how far a webhook's clock may be off */

struct automations;

struct automations_config {
	struct store *store;
	const struct seal *seal;
	const char *node_id;
};

struct automations *automations_new(const struct automations_config *cfg);
int automations_start(struct automations *m, struct api *api, struct why *why) MUST_USE;
void automations_free(struct automations **m); /* NULL is fine */

/* Whether a path of /webhooks/ is theirs; and one that is. */
bool automations_take(const char *path);
void automations_receive(struct automations *m, const struct inside_delivery *d, struct inside_answer *ret);

/* What the thread does once, for tests with a clock of their own: all that is due by then. *ret_next: when something
 * will be (INT64_MAX: nothing). */
int automations_look(struct automations *m, int64_t now_ms, int64_t *ret_next) MUST_USE;
