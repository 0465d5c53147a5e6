/* automations/runner_priv.h: what the runner's files share. */
#pragma once
#include "server/automations/automations.h"
#include "server/automations/runner.h"
#include "server/outbox/outbox.h"

#define AUTOMATION_ATTEMPTS 6

const struct automations_config *automations_cfg(const struct automations *m);
struct api *automations_api(const struct automations *m);
/* Something was committed that the processors are to work off. */
void automations_wake(struct automations *m);

/* process.c: the outbox' handler. */
int automation_process(struct automations *m, const struct outbox_item *item, struct why *why);
/* Whether the agent that it made last has a run that is not over. */
int automation_is_busy(struct tx *tx, const char *automation_id, bool *ret) MUST_USE;
