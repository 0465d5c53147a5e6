/* agent/hooks/hooks.h: the hooks of one session: what people attached to points of the agent loop, run at these points.
 *
 * Hooks come from files (config.h): of the machine, of the team, of the repository, of the machine's user, and from
 * flags of the worker. Each is a command that gets JSON on stdin and answers by JSON on stdout and its exit status
 * (answer.h). It runs where the programs of the session run: in its box, as its user, within its limits, and it ends
 * with it.
 *
 * Thread: opened, renewed and ended by a call that has the session for itself; running hooks: any thread, several at
 * once. What changes meanwhile (variables, counters) is behind a lock of its own, a leaf. */
#pragma once
#include "agent/hooks/answer.h"
#include "agent/tools/tool.h"

struct hooks;
struct session;

/* Of the worker; constant, borrowed for the life of every session. */
struct hook_settings {
	bool project; /* those of the repository run */
	bool third_party; /* the other format is read, too */
	bool user; /* those of the user's home: of a personal machine */
	enum hook_ask ask;
	const char *enterprise_dir; /* holds hooks.json; NULL: there is none */
	const char *team_dir; /* where what came from the control plane is kept; NULL: nowhere */
	const char *on_session_start, *on_session_end; /* NULL: none */
	const char *keep_transcripts_dir; /* where they are when their session has ended; NULL: they go with it */
};

/* What hooks are told of a run (Call.hook_json), and the variables for them. Borrowed. */
struct hook_run {
	const json_t *facts; /* an object; NULL: none */
	const char *const *env; /* "NAME=value", NULL-terminated; NULL: none */
	int cancel_fd; /* as in struct tool_call */
};

/* Reads what there is and attaches it to the open session; runs the hooks of sessionStart. `info` is the SessionInfo:
 * it gets "hookEvents" (array of names), "hookContext" (text, if there is some), and warnings. For a session that is
 * open already only the files of machine and team are read again. ERR_INVALID with `why`: a policy that cannot be read,
 * so that the session must not be used. ERR_EMPTY: the team's hooks of facts.teamHooks.hash are not here; the caller
 * asks for them. */
int hooks_open(const struct hook_settings *set, struct session *s, const struct hook_run *run, json_t *info,
    struct why *why) MUST_USE;
/* Around what changes the session or its hooks (hooks_open, session_open): meanwhile no hook runs that is not of a
 * call. Waits for one that does, which is bounded. h may be NULL, and may be another one behind the release. */
void hooks_hold(struct hooks *h);
void hooks_release(struct hooks *h);
/* Whether the team's hooks of those facts are here; asked before a session is opened for nothing. */
bool hooks_team_is_known(const struct hook_settings *set, const json_t *facts);
/* Takes what came of the conversation with a call, whether a hook runs for it or not. h may be NULL. */
void hooks_take_news(struct hooks *h, const json_t *facts);
/* Of a session; NULL: it has none. */
struct hooks *hooks_of(const struct session *s);
/* Why the session is about to end, for sessionEnd: "completed", "aborted", "error", "user_close"; `status` may be NULL.
 * limit_ms: for all hooks of sessionEnd together. */
void hooks_say_end(struct hooks *h, const char *reason, const char *status, const char *error, int64_t limit_ms);

/* How the newest run ended, for a sessionEnd that is told none. */
void hooks_note_status(struct hooks *h, const char *status);

bool hooks_listen(const struct hooks *h, enum hook_event e);

struct hook_request {
	enum hook_event event;
	const char *subject; /* what matchers look at; NULL: nothing */
	const char *path; /* a file or folder that it is about: its root's hooks run; NULL: the first root's */
	json_t *payload; /* the event's own members; taken */
	const struct hook_run *run;
	int64_t limit_ms; /* of all together; 0: each its own */
};
/* Runs what matches, one after the other, and merges the answers. Give *ret to hook_verdict_fini. */
void hooks_run(struct hooks *h, const struct hook_request *q, struct hook_verdict *ret);

/* tool_hooks.c: what stands before and behind every tool. */
extern const struct tool_hook hooks_of_tools;

/* Where the machine's hooks.json is: /etc/cursor, or, only where that has none, CURSOR_ENTERPRISE_HOOKS_DIR. */
const char *hook_enterprise_dir(void);

/* For `agent hooks`: the files as a session at these roots would read them, in order of rank; the caller frees list and
 * sources. */
size_t hooks_sources_read(const struct hook_settings *set, const char *const *roots, size_t n_roots, const json_t *team,
    struct hook_source ***ret);
void hooks_sources_free(struct hook_source ***list, size_t n);
