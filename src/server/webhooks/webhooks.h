/* webhooks/webhooks.h: tells an address outside that a run of an agent has ended.
 *
 * An event is a row of the outbox (server/outbox), so it is there if and only if the run has ended, and is delivered at
 * least once or given up: at once, then after 10 s, 1 min, 5 min, 30 min and 2 h. Each attempt has the same body, id
 * and signature. Events of one agent go one after the other: the next is sent when the one before was taken or given
 * up.
 *
 * Threads: webhook_… in the caller's transaction; the senders' threads are this room's own. */
#pragma once
#include "base/errors.h"
#include "base/seal.h"
#include "server/node/notify.h"
#include "store/store.h"

#define WEBHOOK_URL_MAX 2048 /* characters */
#define WEBHOOK_SECRET_MIN 32
#define WEBHOOK_SECRET_MAX 256
#define WEBHOOK_SUMMARY_MAX 2000 /* characters */
#define WEBHOOK_SIGNATURE_LEN 72 /* "sha256=", 64 hexadecimal digits, NUL */
#define WEBHOOK_ATTEMPTS 6

struct webhooks;

struct webhooks_config {
	struct store *store;
	const struct seal *seal;
	struct notify *notify;
	const char *node_id;
	bool allow_private; /* addresses that are not public, and any port */
};

/* Where the agent's events go from now on. secret NULL: they are not signed. agent_url: the link to the agent that they
 * name. */
int webhook_set(struct tx *tx, const struct seal *seal, const char *agent_id, const char *url, const char *secret,
    const char *agent_url) MUST_USE;

/* A run of the agent has ended. */
struct webhook_event {
	int64_t team_id;
	const char *agent_id;
	const char *status; /* of the run; CANCELLED is told to nobody, EXPIRED as ERROR */
	const char *repository, *ref, *branch, *pull_url, *summary; /* NULL or "": none */
	int64_t at_ms;
};
/* For the agent's webhook and those of its team (team.h). OK also if there is none. */
int webhook_event(struct tx *tx, const struct webhook_event *e) MUST_USE;
/* The agent is deleted: its address is forgotten, and what was not delivered never is. */
int webhook_drop(struct tx *tx, const char *agent_id) MUST_USE;

/* The beginning of a run's result, of at most WEBHOOK_SUMMARY_MAX characters; malloc'ed, NULL if there is none. */
char *webhook_summary(const char *result);
/* "sha256=" and HMAC-SHA256(secret, body). */
void webhook_sign(const char *secret, const char *body, char out[WEBHOOK_SIGNATURE_LEN]);

/* Listens, so before the first note. */
struct webhooks *webhooks_new(const struct webhooks_config *cfg);
int webhooks_start(struct webhooks *w, struct why *why) MUST_USE;
/* Gives up what is being sent (it counts as an attempt) and ends the threads. NULL is fine. */
void webhooks_free(struct webhooks **w);
/* What a sender does, for tests with a clock of their own: as outbox_send_one. */
int webhooks_send_one(struct webhooks *w, int64_t now_ms, int64_t *ret_next_ms) MUST_USE;
int webhooks_send_one_of_team(struct webhooks *w, int64_t now_ms, int64_t *ret_next_ms) MUST_USE;
