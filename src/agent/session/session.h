/* agent/session/session.h: the workspace of one agent that this worker serves: roots, branch, what is left running. A
 * worker may have several at once, of different agents (adr/0019).
 *
 * A session never works in the folders that the worker was given (the seeds, seed.h): each gets a private copy of them
 * (tree.h), with a git directory of its own, and when it ends the copy is gone. What an agent did not publish is kept
 * in the worker's own repository (depot.h) and put back when the agent comes again.
 *
 * Thread: opened and closed by one call thread at a time while no tool of it runs; between that constant, except the
 * list of background processes and the set of rules that were given, which have their own locks. What sessions share is
 * the worker's own repositories: depot_lock.h. */
#pragma once
#include "base/json.h"

struct box;
struct boxes;
struct depot_locks;
struct rules;
struct tool_hooks;
struct session;

struct session_config {
	const char *const *roots; /* real paths, primary first; borrowed for the session's life */
	size_t n_roots;
	/* <data-dir>/sessions: one folder for each agent; the worker's repositories are in `.repos`. */
	const char *state_dir;
	/* Borrowed; NULL: programs run in none. With leave to mount sessions are found at the seeds' own paths. */
	struct boxes *boxes;
	bool shared_home; /* no overlay over the home folder */
	/* The home folder whose skills, commands and subagents agents are told of, an absolute path; NULL: none,
	 * because it belongs to nobody. Borrowed. */
	const char *home;
	int64_t memory_bytes, cpu_milli, pids; /* limits of a session; 0: none */
	/* Folders that are the real ones for every session: the roots' remotes, what the user names. NULL-terminated,
	 * borrowed; or NULL. */
	const char *const *shared;
	/* Folders that its programs can read and not change: what they are judged by. NULL-terminated, borrowed; or
	 * NULL. What is not there yet is made by the caller. */
	const char *const *guarded;
	/* Of a worker that has several sessions at once: which of its places this one is for, from 1. 0: it is the only
	 * one, and is found at the seeds' own paths where that is possible. */
	unsigned place;
	struct depot_locks *locks; /* borrowed; the same for all sessions of a worker. NULL: it is the only one */
};

/* Before an agent came: no agent, tools are refused by the caller. */
struct session *session_new(const struct session_config *cfg);
void session_free(struct session **s);

/* Why something could not be done, for those who have to act on it. */
struct session_failure {
	/* The reason lies with the machine, its network or its disk: another worker may do better. */
	bool machine;
	struct why why;
	char *said; /* the end of what git said, or NULL; malloc'ed */
	json_t *kept; /* of a publication: as in SessionKept, or NULL; owned */
};
void session_failure_fini(struct session_failure *f);

struct session_open {
	const char *agent_id;
	const char *claim_id; /* NULL is "" */
	const char *repo_url; /* "" if none */
	const char *starting_ref; /* "" is the remote's default branch */
	const char *branch; /* the branch to work on; "" with no repo */
	bool work_on_current_branch;
	void (*progress)(void *ctx, const char *what); /* what it is about to do, in a few words; may be NULL */
	void *progress_ctx;
};

/* Prepares the workspace (docs/worker-protocol.md "Opening a session"). If the agent's session is open already, it is
 * left as it is. OK: *ret_info (new reference) is the SessionInfo:
 * {"workspaceRoots":[…], "repoUrl", "branch", "baseCommit", "headCommit", "os", "arch", "shell", "gitStatus",
 *  "agentsMd":[{"path","text"}], "rules":[{"path","description","globs","alwaysApply","text"?}],
 *  "skills", "commands", "agents" (context_inventory.h),
 *  "warnings":[…], "resumed":bool, "workspace": "overlay"|"reflink"|"copy", "isolation":
 *  "namespace"|"process"|"none"}
 * Another code with `fail`, and no session is open. cancel_fd as in struct tool_call. */
int session_open(struct session *s, const struct session_open *want, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct session_failure *fail) MUST_USE;

struct session_publish {
	const char *message;
	const char *author_name;
	const char *author_email;
};
/* Commits what is uncommitted and pushes what the agent's branch, and every other branch of the session, holds. OK:
 * *ret_info is the PublishInfo of docs/worker-protocol.md. An error: what was not pushed is kept on the worker. Not
 * possible without a repository: OK with {"pushed":false}. */
int session_publish(struct session *s, const struct session_publish *want, int cancel_fd, int64_t deadline_mono_ms,
    json_t **ret_info, struct session_failure *fail) MUST_USE;

/* {"cpuMs", "peakMemoryBytes", "writtenBytes"} as `resources`: what the programs of the session used since it was
 * opened last. Not put where nobody counts: without a box. */
void session_put_resources(struct session *s, json_t *info);

/* Kills what the agent left running (TERM, 2 s, KILL; its box, or whole process groups and their descendants), keeps
 * what was not published, removes the workspace and forgets the agent. *ret_kept (may be NULL): SessionKept, a new
 * reference, or NULL if everything is on the remote: {"ref","commit","reason"}. Empty: it could not be kept, the log
 * says where its files are. */
void session_close(struct session *s, json_t **ret_kept);

/* What a worker that was killed left in this state_dir: its agents' programs are ended as by session_close, what they
 * did not publish is kept, their folders removed. Before the first session is opened, by the holder of the data
 * directory's lock. */
struct session_leftovers {
	size_t processes, folders, kept;
	bool alive; /* some process did not end */
};
void session_end_leftovers(const struct session_config *cfg, struct session_leftovers *ret);

/* Something that goes with the open session: `end` is called once, when the session is closed and all its files are
 * still there; in the order of the list. One of each kind; by the call that has opened it. */
enum session_guest { GUEST_MCP, GUEST_ARTIFACTS, GUESTS };
void session_attach(struct session *s, enum session_guest kind, void *what, void (*end)(void *what));
/* NULL: nothing is attached. */
void *session_attached(const struct session *s, enum session_guest kind);

/* What tools need. Borrowed. */
const char *session_agent_id(const struct session *s); /* "" if none */
const char *session_claim_id(const struct session *s); /* for which it was opened last; "" if no agent */
/* The session's own copy of the first root; while none is open the root itself. */
const char *session_primary_root(const struct session *s);
size_t session_roots(const struct session *s, const char *const **ret_roots);
/* session_config.home. */
const char *session_home(const struct session *s);
const char *session_scratch_dir(const struct session *s); /* exists while a session is open; removed at its end */
/* The same as the mark of a program that is about to be started: from here on closing looks for what is left. */
const char *session_program_mark(struct session *s);
/* Where its programs can read what is said in its conversation; malloc'ed, NULL if it cannot be made. */
char *session_transcript_dir(const struct session *s);
/* Where its programs run; NULL: in no box. */
struct box *session_box(const struct session *s);
/* It has folders of its own in places where others are for the worker (/tmp, ~). */
bool session_has_own_view(const struct session *s);
/* A tool may have changed the workspace. Any thread. */
void session_touch(struct session *s);
/* What of the workspace's rules the agent was given (rules.h). */
struct rules *session_rules(const struct session *s);
/* What stands before and behind every tool of the session; constant while calls run. NULL: nothing. */
const struct tool_hooks *session_tool_hooks(const struct session *s);
/* Sets that (borrowed, may be NULL), and what goes with it: `end` is called once, first of all when the session is
 * closed, while its programs and files are still there. By the call that has opened it. */
void session_set_hooks(struct session *s, const struct tool_hooks *hooks, void *state, void (*end)(void *state));
void *session_hooks(const struct session *s);
/* Registers a background process group, of no box, to be killed at the end of the session. */
void session_add_background(struct session *s, int pid);
