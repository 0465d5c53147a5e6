/* automations/automations.h: agents that begin by themselves, by a schedule or by a webhook: their rows, and what
 * became of each time (a run of the automation, not to be confused with the agent's run).
 *
 * A tick is one moment of a schedule, one delivery of a webhook or one request. It is a row that there is once
 * (automation_fire), written together with what has it worked off (the outbox, one after the other for an automation);
 * the agent's id is derived from it, and agent and end of the row are one transaction (runner.c). So a tick makes one
 * agent at most, however often and by however many servers it is tried.
 *
 * Thread: any, in the caller's transaction. */
#pragma once
#include "base/json.h"
#include "base/seal.h"
#include "server/access/access.h"
#include "store/store.h"

#define AUTOMATION_KIND "automation" /* of the outbox; its subject is the automation */
#define AUTOMATIONS_MAX 100 /* of an owner */
#define AUTOMATION_QUEUED_MAX 10
#define AUTOMATION_NAME_MAX 100 /* characters */
#define AUTOMATION_PROMPT_MAX ((size_t)64 * 1024)
#define AUTOMATION_ID_LEN 42 /* "auto-", a UUID, NUL */
#define AUTOMATION_OLD_SECRET_MS ((int64_t)24 * 60 * 60 * 1000)

struct automation {
	char *id;
	int64_t team_id;
	char *owner; /* as principal.owner */
	char *name, *prompt;
	json_t *launch; /* what POST /v1/agents is told besides prompt and name */
	char *concurrency; /* skip, queue */
	bool enabled;
	char *cron, *time_zone, *missed; /* NULL: no schedule; missed: skip, once */
	int64_t next_at; /* 0: none is due ever */
	char *secret, *old_secret; /* sealed; NULL: no webhook, no older one */
	int64_t old_until;
	bool timestamped;
	int64_t created_at, updated_at;
};
void automation_free(struct automation **a);

/* ERR_NOT_FOUND. */
int automation_load(struct tx *tx, const char *id, struct automation **ret) MUST_USE;
/* Newest first; struct automation *[], at most `limit`; free each. Before (created_at, id). */
int automation_list(struct tx *tx, const char *owner, int64_t before, const char *before_id, int64_t limit,
    struct automation **ret, size_t *ret_n) MUST_USE;
/* A new row, or the same anew. ERR_FULL: the owner has as many as she may. */
int automation_insert(struct tx *tx, const struct automation *a) MUST_USE;
int automation_update(struct tx *tx, const struct automation *a) MUST_USE;
/* With what became of its times, and what waits. */
int automation_delete(struct tx *tx, const char *id) MUST_USE;

/* Checks cron and time_zone and sets next_at: the first time after now, 0 if it is disabled or has no schedule.
 * ERR_INVALID with `why`. */
int automation_plan(struct automation *a, int64_t now_ms, struct why *why) MUST_USE;

/* A secret for its webhook: 64 hexadecimal digits, to be shown once and wiped; the one before holds for a day. */
char *automation_new_secret(struct automation *a, const struct seal *seal, int64_t now_ms);
/* *ret: malloc'ed, to be wiped. `old`: the one before; ERR_EMPTY: there is none (any more). */
int automation_secret(
    const struct automation *a, const struct seal *seal, bool old, int64_t now_ms, char **ret) MUST_USE;

struct automation_tick {
	const char *automation_id;
	const char *tick; /* what it is once for */
	const char *signature; /* NULL: it has none */
	const char *cause; /* schedule, webhook, manual */
	const char *prompt; /* NULL: the automation's */
	const char *reason; /* NULL: nothing to be said */
	int64_t at_ms;
};
#define AUTOMATION_RUN_ID_LEN 42 /* "arun-", a UUID, NUL */
/* ERR_CONFLICT: it was there before. */
int automation_fire(
    struct tx *tx, const struct automation_tick *t, int64_t now_ms, char ret_id[AUTOMATION_RUN_ID_LEN]) MUST_USE;
/* A time at which nothing was done. The same. */
int automation_note(struct tx *tx, const struct automation_tick *t, const char *state, int64_t now_ms) MUST_USE;
/* The agent that a tick makes. */
#define AGENT_ID_LEN 40
void automation_agent_id(const char *automation_id, const char *tick, char out[AGENT_ID_LEN]);

/* [{id, cause, state, at, createdAt, reason?, agentId?, endedAt?}], newest first, new reference; *ret_next: created_at
 * and id for the page behind it, id NULL if there is none (malloc'ed). */
int automation_runs(struct tx *tx, const char *automation_id, int64_t before, const char *before_id, int64_t limit,
    json_t **ret, int64_t *ret_next, char **ret_next_id) MUST_USE;
/* One of them. ERR_NOT_FOUND. */
int automation_run(struct tx *tx, const char *run_id, json_t **ret) MUST_USE;
