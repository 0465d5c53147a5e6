/* webhooks/team.h: addresses that are told when a run of any agent of the team has ended: statusChange, as an agent's
 * own webhook (webhooks.h), and besides.
 *
 * An event is a row of the outbox for each address that wants it, written in the transaction that ends the run. It is
 * delivered at least once, in no order: at once, then after 10 s, 1 min, 10 min, 1 h, 6 h and 17 h, which is a little
 * more than a day; with the same body and id each time, and a signature that names the time of the attempt. What could
 * not be delivered is dead: it is kept for seven days, and delivered again when that is asked for.
 *
 * Thread: any, in the caller's transaction. */
#pragma once
#include "base/json.h"
#include "server/webhooks/webhooks.h"

#define TEAM_WEBHOOKS_MAX 20 /* of a team */
#define TEAM_WEBHOOK_EVENTS "statusChange, statusChange.FINISHED, statusChange.ERROR"

struct team_webhook {
	const char *id; /* NULL: for team_webhook_add to choose */
	int64_t team_id;
	const char *name, *url, *secret, *base_url, *created_by;
	const json_t *events; /* list of texts */
	int64_t created_at;
};
bool team_webhook_event_is_known(const char *event);
/* *ret_id: malloc'ed. ERR_FULL: the team has as many as it may. */
int team_webhook_add(struct tx *tx, const struct seal *seal, const struct team_webhook *w, char **ret_id) MUST_USE;
/* With what was not delivered. ERR_NOT_FOUND. *ret_url (malloc'ed): where it went. */
int team_webhook_remove(struct tx *tx, int64_t team_id, const char *id, char **ret_url) MUST_USE;
/* [{id, name, url, events, createdAt, createdBy, waiting, failed}], new reference. */
int team_webhook_list(struct tx *tx, int64_t team_id, json_t **ret) MUST_USE;
/* ERR_NOT_FOUND. */
int team_webhook_find(struct tx *tx, int64_t team_id, const char *id) MUST_USE;

/* A run has ended; body: what is told, without its target. */
int team_webhook_event(struct tx *tx, const struct webhook_event *e) MUST_USE;

/* [{id, state: waiting|delivered|dead, attempts, event, agentId, status, createdAt, nextAttemptAt?, endedAt?, error?}],
 * newest first. state NULL: any. */
int team_delivery_list(struct tx *tx, const char *webhook_id, const char *state, int64_t before, const char *before_id,
    int64_t limit, json_t **ret, int64_t *ret_next, char **ret_next_id) MUST_USE;
/* Once more, with the same id and all its attempts. webhook_id NULL: of any of the team's. ERR_NOT_FOUND; ERR_CONFLICT:
 * it waits for an attempt already. */
int team_delivery_again(
    struct tx *tx, int64_t team_id, const char *webhook_id, const char *id, int64_t now_ms) MUST_USE;
