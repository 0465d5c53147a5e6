/* agent/worker/session.h: the workspace of the one agent that this worker serves: roots, branch, what is left running.
 * Thread: opened and closed by one call thread at a time while no tool runs; between that constant, except the list of
 * background processes and the set of rules that were given, which have their own locks. */
#pragma once
#include "base/json.h"

struct rules;
struct tool_hooks;
struct session;

struct session_config {
	const char *const *roots; /* real paths, primary first; borrowed for the session's life */
	size_t n_roots;
	const char *state_dir; /* for scratch files: <data-dir>/sessions */
};

/* Before an agent came: no agent, tools are refused by the caller. */
struct session *session_new(const struct session_config *cfg);
void session_free(struct session **s);

struct session_open {
	const char *agent_id;
	const char *claim_id; /* NULL is "" */
	const char *repo_url; /* "" if none */
	const char *starting_ref; /* "" is the remote's default branch */
	const char *branch; /* the branch to work on; "" with no repo */
	bool work_on_current_branch;
};

/* Prepares the workspace (docs/worker-protocol.md "Opening a session"): fetch, check out, create the branch; if the
 * agent's branch is checked out here already, what is there is left as it is. Uncommitted changes of others are kept in
 * a stash, never lost. Idempotent. OK: *ret_info (new reference) is the SessionInfo:
 * {"workspaceRoots":[…], "repoUrl", "branch", "baseCommit", "headCommit", "os", "arch", "shell", "gitStatus",
 *  "agentsMd":[{"path","text"}], "rules":[{"path","description","globs","alwaysApply","text"?}],
 *  "warnings":[…], "resumed":bool}
 * ERR_INVALID etc. with `why`: a sentence that ends the run as clone_failed. cancel_fd as in struct tool_call. */
int session_open(struct session *s, const struct session_open *want, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct why *why) MUST_USE;

struct session_publish {
	const char *message;
	const char *author_name;
	const char *author_email;
};
/* Commits what is uncommitted and pushes the branch. OK: *ret_info is the PublishInfo:
 * {"branch","repoUrl","commit","committed":bool,"pushed":bool,"filesChanged","linesAdded","linesRemoved","diffStat"}
 * (counts against the base commit; pushed is false only when there is nothing to push). Errors with `why`; a failed
 * push leaves the commit on the worker. Not possible without a repository: OK with {"pushed":false}. */
int session_publish(struct session *s, const struct session_publish *want, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct why *why) MUST_USE;

/* Kills what the agent left running (TERM, 2 s, KILL, whole process groups and their descendants) and forgets the
 * agent. The checkout stays. */
void session_close(struct session *s);

/* What a worker that was killed left in this state_dir: its agents' programs are ended as by session_close, their
 * scratch folders removed. Before the first session is opened, by the holder of the data directory's lock. */
struct session_leftovers {
	size_t processes, folders;
	bool alive; /* some process did not end */
};
void session_end_leftovers(const char *state_dir, struct session_leftovers *ret);

/* What tools need. Borrowed. */
const char *session_agent_id(const struct session *s); /* "" if none */
const char *session_claim_id(const struct session *s); /* for which it was opened last; "" if no agent */
const char *session_primary_root(const struct session *s);
size_t session_roots(const struct session *s, const char *const **ret_roots);
const char *session_scratch_dir(const struct session *s); /* exists while a session is open; removed at its end */
/* The same as the mark of a program that is about to be started: from here on closing looks for what is left. */
const char *session_program_mark(struct session *s);
/* What of the workspace's rules the agent was given (rules.h). */
struct rules *session_rules(const struct session *s);
/* What stands before and behind every tool of the session; constant while calls run. */
const struct tool_hooks *session_tool_hooks(const struct session *s);
/* Registers a background process group to be killed at the end of the session. */
void session_add_background(struct session *s, int pid);
