/* runs/runs_priv.h: for this folder only. */
#pragma once
#include "server/models/provider.h"
#include "server/runs/runs.h"
#include <stdatomic.h>

#define RUNS_MAGIC 0x52554e53u
#define STREAM_JSON_MAX (64 * 1024) /* args and results in the stream; larger ones are left out and flagged */
#define MODEL_TEXT_MAX (32 * 1024)

struct pump;
struct supervisor;

struct runs {
	unsigned magic;
	struct runs_config cfg;
	struct fleet *fleet;
	struct pump *pump;
	struct supervisor *supervisor;
	_Atomic bool stopping;
};

/* log.c: the event log of a run. */
enum event_kind { EV_ASSISTANT, EV_THINKING, EV_TOOL_CALL, EV_UPDATE, EV_RESULT };
extern const char *const event_names[];
/* Appends in the caller's transaction. data and twin are taken; twin may be NULL: the interaction_update that shares
 * the event's id. */
int log_append(struct tx *tx, const char *run_id, enum event_kind kind, json_t *data, json_t *twin) MUST_USE;
/* Shorthand for an interaction_update alone. */
int log_update(struct tx *tx, const char *run_id, json_t *data) MUST_USE;
/* tool_call events. session_info: what the worker said about its tools, NULL if it did not. result NULL: "running". */
int log_tool_call(struct tx *tx, const char *run_id, const char *call_id, const char *name, const json_t *session_info,
    const json_t *args, const char *outcome, const json_t *result, const json_t *sdk_result) MUST_USE;

/* tools.c: the tools as the worker described them. */
/* By name or alias, without regard to case; borrowed, NULL if there is none. */
const json_t *tool_described(const json_t *session_info, const char *name);
/* A text of the description; "" if it has none (or the tool is NULL). */
const char *tool_word(const json_t *tool, const char *field);
/* The arguments under the tool's own names, where a model used others. New reference. */
json_t *tool_own_args(const json_t *tool, const json_t *args);
/* The arguments as the client library takes them: no nulls, defaults filled in, long strings cut if the whole is longer
 * than `max` bytes. New reference. */
json_t *tool_sdk_args(const json_t *tool, const json_t *args, size_t max);

/* rows.c */
int run_load_active(struct tx *tx, const char *run_id, struct run_info **ret) MUST_USE;

/* end.c: the one way a run becomes terminal. ERR_CONFLICT if it is already. */
struct run_end {
	const char *status, *result, *error_code, *error_message; /* NULL if none */
};
int run_end(struct tx *tx, const char *run_id, const struct run_end *end) MUST_USE;

/* conversation.c */
/* The conversation of the agent up to and including this run, in the form of models/provider.h. */
int conversation_load(struct tx *tx, const char *agent_id, json_t **ret) MUST_USE;
/* The system text from what the worker said about its workspace. malloc'ed. */
char *context_system_text(const json_t *session_info, const char *mode);

/* thread.c: drives one run until it is terminal, or has to be left alone (worker lost, stopping). */
void run_thread(struct runs *r, const char *run_id);

/* supervisor.c */
int supervisor_start(struct runs *r) MUST_USE;
void supervisor_stop(struct runs *r);
/* Makes sure that a thread drives the run, now or as soon as one is free. */
void supervisor_drive(struct runs *r, const char *run_id);

/* sweep.c: moves on what is overdue. Called every few seconds by the supervisor's thread. */
void sweep(struct runs *r);

/* stream.c */
int pump_start(struct runs *r) MUST_USE;
void pump_stop(struct runs *r);
/* New events or a new status: tell the readers. */
void stream_notify(struct runs *r, const char *run_id);
