/* agent/session/exec.h: running one program, with an end in sight: deadline, cancel, bounded output, and nothing of it
 * left behind.
 * Thread: any; a call blocks its thread. The list of secrets has its own lock.
 *
 * A program runs in a box (agent/box/box.h) if the spec names one: then what it leaves behind ends with the box,
 * whatever it did. Ending one call before that, by timeout or cancel, and what runs in no box, goes by marks: every
 * program gets a session (setsid) of its own and up to two marks in its environment: CURSOR_AGENT_CALL=<call
 * id>.<uuid>, one a program (the id is empty where none is given, as for git), and CURSOR_AGENT_SCRATCH, one an agent.
 * Timeout and cancel end what carries the first, the end of the agent's session what carries the second; children of a
 * program that ended by itself live until then. Killing goes by four things: the process group and session catch the
 * plain case, the mark (read from /proc) those that called setsid or forked twice, the parent's pid those that wiped
 * their environment, and what was found once stays known when its parent is gone. Only what did all of it before the
 * killing began (wiped, setsid, parent gone) is not seen: a box ends that, at its own end. */
#pragma once
#include "base/errors.h"
#include <sys/types.h>

struct box;

/* What is 0 or NULL is not given; so descriptor 0 cannot be. */
struct exec_spec {
	const char *const *argv; /* NULL-terminated, argv[0] is looked up in PATH; or NULL: see command */
	/* For `bash -c`, or `sh -c` where there is no bash. What is too long for an argument (128 KiB) is written to a
	 * file in scratch_dir, which must be given for it. */
	const char *command;
	struct box *box; /* where it runs, borrowed; NULL: in none */
	pid_t *ret_inner_pid; /* in a box: the program's pid as the box sees it; NULL: nobody asks */
	const char *cwd; /* in a box only: the directory's path as the box sees it; NULL: cwd_fd */
	int *ret_end_fd; /* exec_background: readable at its end, the caller's; left alone if there is none. May be NULL
			  */
	int cwd_fd; /* a directory, borrowed; not given: the worker's own */
	int stdin_fd; /* borrowed; not given: /dev/null */
	const char *const *env; /* NULL, or NULL-terminated "NAME=value" to set, "NAME" to unset */
	const char *agent_id; /* CURSOR_CONVERSATION_ID; NULL: none */
	const char *scratch_dir; /* CURSOR_AGENT_SCRATCH, the mark of the session; NULL: none */
	const char *call_id; /* first part of CURSOR_AGENT_CALL; may be NULL */
	int cancel_fd; /* readable once cancelled; -1 or not given: none */
	int64_t deadline_mono_ms; /* not given: none */
	void (*on_output)(void *ctx, int stream, const void *data, size_t len); /* 1 stdout, 2 stderr; may be NULL */
	void *on_output_ctx;
	/* It serves us for long: its environment is the marks and `env`, nothing of the worker's; its output goes to
	 * on_output and is not kept; what it leaves behind ends with it. */
	bool service;
	int linger_ms; /* from its end to that of its output; not given: 2 s */
	int term_ms; /* from TERM to KILL; not given: 1 s */
	const bool *stop; /* may be NULL; once on_output sets it the program is killed and the rest not read */
};
#define EXEC_SPEC(...) ((struct exec_spec){__VA_ARGS__})

/* What is kept of the output: head and tail, 1 MiB in all (half of it for stdout). Valid UTF-8, never NULL. */
struct exec_result {
	int exit_code; /* 128 + signal number if a signal ended it */
	int signal; /* 0: none */
	bool timed_out;
	bool cancelled;
	bool truncated;
	char *out;
	char *err;
	char *both; /* in the order of arrival */
	int64_t duration_ms;
};
#define EXEC_OUT_MAX (512 * 1024)
#define EXEC_ERR_MAX (256 * 1024)
#define EXEC_BOTH_MAX (256 * 1024)

/* OK: the program ran, however it ended, timeout and cancel included; *ret is to be given to exec_result_fini.
 * ERR_NOT_FOUND etc. with `why`: it could not be started. */
int exec_run(const struct exec_spec *spec, struct exec_result *ret, struct why *why) MUST_USE;
void exec_result_fini(struct exec_result *r);

/* Starts the program with both outputs appended to log_fd (borrowed) and does not wait. *ret_pid is also its process
 * group. Without a box the caller reaps it; in a box there is nothing to
 * reap, and it is the pid as the box sees it. cancel_fd, deadline, on_output and stop
 * are not used. */
int exec_background(const struct exec_spec *spec, int log_fd, pid_t *ret_pid, struct why *why) MUST_USE;

/* Ends everything that carries the mark ("NAME=value"; "NAME=folder/" is any value below that folder) or belongs to the
 * process group or session `leader` (0: none), and what those started: TERM, KILL after term_ms, again and again until
 * nothing is left or give_up_ms passed. Returns whether nothing is left. */
bool exec_kill_all(const char *mark, pid_t leader, int term_ms, int give_up_ms);
/* How many that would be now. */
size_t exec_count(const char *mark);

/* Variables with exactly this value are kept from every program. "" and NULL are ignored. */
void exec_hide_secret(const char *value);

/* "bash" or "sh". */
const char *exec_shell_name(void);

/* exec_env.c: for exec.c only. NULL-terminated array of malloc'ed strings. */
char **exec_env_new(const struct exec_spec *spec, const char *mark);
void exec_env_free(char ***env);
