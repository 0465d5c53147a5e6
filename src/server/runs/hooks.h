/* runs/hooks.h: hooks of what the control plane decides or performs itself. They run on the worker, which says at the
 * opening of a session which events have any (SessionInfo.hookEvents); the others cost nothing. For this folder only.
 *
 * A run of hooks is a call of kind RUN_HOOKS with an id that follows from what it is about: after a crash it is found
 * again, and its answer is the same. Thread: the loop's. */
#pragma once
#include "server/runs/side_job.h"

struct context;

bool hooks_listen(const struct loop *l, const char *event);

/* What hooks are told of the run (Call.hook_json), for a call; malloc'ed, NULL: nothing. */
char *hooks_facts(const struct loop *l, struct call *c);
/* Of the person behind the agent; *ret NULL: a service account. */
int hooks_load_email(struct tx *tx, const struct agent *a, char **ret) MUST_USE;

/* Before the model hears the prompt. The loop is failed (prompt_blocked) if a hook blocks it. */
int hooks_before_prompt(struct loop *l) MUST_USE;
/* A response is complete: its thinking and its text. Either may be NULL. */
int hooks_after_response(struct loop *l, int64_t step, const char *thinking, const char *text) MUST_USE;
/* The loop has its answer, or has failed: hooks of `stop`, of a nested loop `subagentStop`. *ret: what it shall go on
 * with, malloc'ed, stored as a message before step `step`; NULL: it ends. */
int hooks_stop(struct loop *l, int64_t step, const char *text, char **ret) MUST_USE;
/* The run was cancelled: hooks of `stop` are told, without a row, because the run is over; nobody waits for them. */
void hooks_tell_aborted(struct loop *l);
/* How the run ended, for a later sessionEnd; nobody waits for it. */
void hooks_tell_end(struct loop *l, const char *status);
/* The conversation is about to be cut. */
int hooks_before_compaction(struct loop *l, int64_t step, const struct context *c, size_t cut) MUST_USE;

/* Messages of hooks in a conversation; also of one that is loaded. */
int hook_messages_load(struct tx *tx, const char *loop_id, json_t **ret) MUST_USE; /* [{step, text}] in order */

/* hooks_transcript.c: messages of the conversation, the first of which stands at that position of the whole; those that
 * were noted before are passed over. */
void hooks_note_messages(struct loop *l, const json_t *messages, size_t first);
/* What the worker may not have of them, as a new reference; NULL: nothing. *ret_upto: for hooks_told. */
json_t *hooks_news(const struct loop *l, size_t *ret_upto);
/* A call that brought them has ended. */
void hooks_told(struct loop *l, size_t upto);

/* hooks_side.c: around a tool that the control plane performs; on the job's thread. */
/* false: it is not to be performed, the job has its answer. It may have changed j->args. */
bool hooks_before_job(struct side_job *j);
/* It has its answer. */
void hooks_after_job(struct side_job *j);
/* What the hooks of a nested loop are told of the call that started it. */
void hooks_describe_subagent(struct loop *child, const json_t *args);
/* Of a nested loop that is about to begin. false: refused, the job has its answer. */
bool hooks_subagent_start(struct side_job *j, struct loop *child);

/* hooks.c, for hooks_side.c. OK: *ret is the answer (docs/worker-protocol.md, RUN_HOOKS), a new reference; NULL: no
 * hooks listen. `key` tells this time from others; `payload` is taken. An error is that of a call: the loop is left. */
int hooks_perform(
    struct loop *l, const char *key, const char *event, const char *subject, json_t *payload, json_t **ret) MUST_USE;
bool hooks_refuse(const json_t *answer);
const char *hooks_word(const json_t *answer, const char *key);
