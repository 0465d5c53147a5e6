/* triggers/triggers.h: agents that people start and continue where they talk: comments at a forge, chats, later
 * trackers.
 *
 * One pipeline for all surfaces: an event's signature is checked over its bytes, the event is stored once by the
 * delivery's id, and answered; everything else is done behind the answer by processors (the outbox), in order for each
 * conversation: is it for us, who asks, which options, which target, may she, make or continue the agent, say so there.
 *
 * Threads: start and end of the server; triggers_receive from any (handlers). */
#pragma once
#include "server/api/inside.h"
#include "server/forges/forges.h"
#include "server/node/notify.h"

struct seal;
struct triggers;

struct triggers_config {
	struct store *store;
	const struct forges *forges;
	struct notify *notify;
	const char *node_id;
	const struct seal *seal; /* borrowed, like all of these */
	const char *cloud_pool; /* "": there are no managed machines */
	const json_t *settings, *linear,
	    *slack; /* the tables `triggers`, `linear`, `slack` of the settings; NULL: none */
};

/* ERR_INVALID with `why`: a setting is wrong. */
int triggers_check(const struct triggers_config *cfg, struct why *why) MUST_USE;
int triggers_new(const struct triggers_config *cfg, struct triggers **ret, struct why *why) MUST_USE;
/* Once, before triggers_start: what makes agents. */
void triggers_set_api(struct triggers *t, struct api *api);
int triggers_start(struct triggers *t, struct why *why) MUST_USE;
/* NULL is fine. */
void triggers_free(struct triggers **t);
/* For api_config.receive. */
void triggers_receive(void *ctx, const struct inside_delivery *d, struct inside_answer *ret);
