/* runs/log.h: the event log of a run, and with it the row of the run that each write changes anyway.
 *
 * A log is opened in a write transaction and closed before its commit: what is appended in between is counted in
 * memory, and one statement writes the run back. Ids are "<unix ms>-<n>", strictly increasing in a run whatever the
 * clock does. Thread: the transaction's. For this folder only. */
#pragma once
#include "base/json.h"
#include "server/models/provider.h"
#include "store/store.h"

#define STREAM_JSON_MAX (64 * 1024) /* args and results in the stream; larger ones are left out and flagged */

enum event_kind { EV_ASSISTANT, EV_THINKING, EV_TOOL_CALL, EV_UPDATE, EV_RESULT };
extern const char *const event_names[];

struct log {
	struct tx *tx;
	const char *run_id; /* borrowed */
	const char *parent_call_id; /* borrowed; of the nested loop that writes, NULL: the run's own loop */
	bool active; /* the run was not terminal when the log was opened */
	int64_t epoch; /* owner_epoch: closing fails with ERR_FENCED if it is another by then */
	int64_t seq, ms, n; /* of the newest event */
	struct model_usage usage; /* of the whole run */
};

/* ERR_NOT_FOUND: there is no such run. */
int log_open(struct log *l, struct tx *tx, const char *run_id, const char *parent_call_id) MUST_USE;
int log_close(struct log *l) MUST_USE;

/* data and twin are JSON texts; twin may be NULL: the interaction_update that shares the event's id.
 *
 * A nested loop's events stand in the same log and name the call that started the loop: its text, thoughts and updates
 * become a `tool-call-delta` of that call, so that a client which knows nothing of nested loops does not take them for
 * the run's own words; its tool calls are told as such, with `parentCallId`. */
int log_append_text(struct log *l, enum event_kind kind, const char *data, const char *twin) MUST_USE;
/* The same; data and twin are taken. */
int log_append(struct log *l, enum event_kind kind, json_t *data, json_t *twin) MUST_USE;
/* Shorthand for an interaction_update alone. */
int log_update(struct log *l, json_t *data) MUST_USE;
/* A line for people about what the control plane does with the run, told as output of the call it is about (a
 * session's). Cut at 4 KiB, without control characters. */
int log_line(struct log *l, const char *call_id, const char *text) MUST_USE;
/* {callId, stream, data} of a command. It names its call itself, so that of a nested loop is told like any other: the
 * client library knows none inside of a delta. Taken. */
int log_command_output(struct log *l, json_t *event) MUST_USE;
/* A text that is told at once, in events of at most 16 KiB. */
int log_words(struct log *l, const char *text) MUST_USE;
void log_usage(struct log *l, const struct model_usage *u);

/* A call of a tool as it is told; all JSON members are texts. */
struct tool_event {
	const char *call_id, *name;
	const char *args;
	const char *outcome; /* NULL: running; then there is nothing below but the twin's type and arguments */
	const char *result;
	const char *message; /* what went wrong, NULL if nothing */
	size_t output_bytes; /* what a command printed, as far as the result has it: told if the result is left out */
	/* The twin, in the client library's terms. */
	const char *sdk_type; /* "": there is no twin */
	const char *sdk_args, *sdk_result; /* sdk_result NULL: as `result` */
};
int log_tool_call(struct log *l, const struct tool_event *e) MUST_USE;
