/* notices/notices.h: tells those who follow an agent elsewhere (a chat, an issue) that a run of it has ended: a row of
 * the outbox for each conversation, in the transaction that ends the run. Who sends them is above (server/triggers).
 * Thread: the transaction's. */
#pragma once
#include "base/errors.h"
#include "store/store.h"

#define NOTICE_KIND "notice" /* of the outbox; its subject is the agent's id */

struct notice_run {
	const char *agent_id, *run_id, *status;
	const char *result, *error, *pull_url, *branch; /* NULL: none */
	int64_t at_ms;
};
/* OK also if nobody follows the agent. */
int notice_run_ended(struct tx *tx, const struct notice_run *run) MUST_USE;
/* The agent is deleted. */
int notice_drop(struct tx *tx, const char *agent_id) MUST_USE;
