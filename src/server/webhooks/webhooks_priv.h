/* webhooks/webhooks_priv.h: what the files of this folder share. */
#pragma once
#include "server/outbox/outbox.h"
#include "server/webhooks/webhooks.h"
#include <stdatomic.h>

#define TEAM_KIND "team-webhook"

/* The body of a statusChange, malloc'ed. */
char *webhook_body(const struct webhook_event *e, const char *agent_url);
/* POSTs it; OK, or what it means for the row. headers: NULL-terminated. */
int webhook_post(const struct webhooks_config *cfg, const char *url, const char *body, const char *const *headers,
    const atomic_bool *stop, struct why *why);
/* team.c: delivers one of the rows of TEAM_KIND. */
int team_deliver(
    const struct webhooks_config *cfg, const struct outbox_item *item, const atomic_bool *stop, struct why *why);
