/* runs/runs_priv.h: for this folder only. */
#pragma once
#include "server/models/models.h"
#include "server/runs/log.h"
#include "server/runs/runs.h"
#include <stdatomic.h>

#define RUNS_MAGIC 0x52554e53u
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

/* tools.c: the tools as the worker described them. */
/* By name or alias, without regard to case; borrowed, NULL if there is none. */
const json_t *tool_described(const json_t *tools, const char *name);
/* A text of the description; "" if it has none (or the tool is NULL). */
const char *tool_word(const json_t *tool, const char *field);
/* The arguments under the tool's own names, where a model used others. New reference. */
json_t *tool_own_args(const json_t *tool, const json_t *args);
/* The arguments as the client library takes them, as JSON text: no nulls, defaults filled in, long strings cut if the
 * whole is longer than `max` bytes. malloc'ed. */
char *tool_sdk_args(const json_t *tool, const json_t *args, size_t max);

/* end.c: the one way a run becomes terminal. ERR_CONFLICT if it is already. */
struct run_end {
	const char *status, *result, *error_code, *error_message; /* NULL if none */
};
int run_end(struct log *l, const struct run_end *end) MUST_USE;
/* The same with a log of its own. */
int run_end_now(struct tx *tx, const char *run_id, const struct run_end *end) MUST_USE;

/* branch.c: "cursor/<slug>-<4 hex>" from the agent's name; one that no other agent of its repository has. malloc'ed. */
int branch_for(struct tx *tx, const char *prefix, const struct agent *a, char **ret) MUST_USE;

/* conversation.c */
/* The conversation of the agent up to and including this run, in the form of models/provider.h. Images of messages
 * before the position images_from are not loaded; of the others the newest, up to a bound. */
int conversation_load(struct tx *tx, const char *agent_id, size_t images_from, json_t **ret) MUST_USE;
/* One step for the end of a conversation. conversation_add_call goes between the two; text may be anything. */
json_t *conversation_begin_step(const char *text, const json_t *native);
void conversation_add_call(json_t *step, const char *id, const char *name, const json_t *args);
/* `stop`: the column steps.stop. An answer that was cut off is followed by a word to go on. */
void conversation_end_step(json_t *conversation, json_t *step, const char *stop);
/* The step is not the final answer although it has no call: it was cut off. */
bool step_goes_on(const char *stop, size_t n_calls);
void conversation_add_result(json_t *conversation, const char *id, const char *name, const char *outcome,
    const char *text, const json_t *detail);
/* Of a result what a conversation keeps besides the text: {"exitCode"?, "message"?}. New reference. */
json_t *conversation_detail(const json_t *result);
/* system.c: the system text from what the worker said about its workspace. malloc'ed. */
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
