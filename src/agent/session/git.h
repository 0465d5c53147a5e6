/* agent/session/git.h: git as a program: never asking, never waiting for ever, its last word as the reason.
 * Thread: any; a call blocks. What comes from outside must be checked by git_ref_is_sound, or follow "--" or "=". */
#pragma once
#include "base/errors.h"

struct box;

struct git {
	const char *dir; /* where git runs */
	const char *agent_id;
	const char *scratch_dir;
	struct box *box; /* where it runs; NULL: in none */
	int cancel_fd;
	int64_t deadline_mono_ms;
	/* NULL: found by git itself from `dir`. */
	const char *git_dir, *work_tree, *index;
	/* Folder of the hooks that run, of our own choosing or relative to the work tree; NULL: none runs. */
	const char *hooks;
	const char *input; /* for standard input; NULL: none */
	size_t input_len;
	/* Where the end of what git said about a failure is put, malloc'ed, as git_said; may be NULL. */
	char **said;
};

struct git_out {
	int status;
	char *out; /* without the last newline; at most 512 KiB, see exec.h */
	size_t out_len;
	char *err;
};
void git_out_fini(struct git_out *o);

/* Runs `git ARGS` with a fixed configuration: no hooks but those of `hooks`, no file system monitor, no transport that
 * is a program, nothing that asks. OK: it ended by itself, whatever its status. ERR_TIMEOUT, ERR_CANCELLED, or it did
 * not start. */
int git_run(const struct git *g, const char *const *args, struct git_out *ret, struct why *why) MUST_USE;
/* The same with the output as it came: NUL bytes, and whole, up to 16 MiB (ERR_TOO_LARGE). For `-z`. */
int git_run_bytes(const struct git *g, const char *const *args, struct git_out *ret, struct why *why) MUST_USE;
/* git_run, but a status other than 0 is an error with git's reason: ERR_NO_SPACE, ERR_NET (the remote was not reached
 * or did not let us in), else ERR_INVALID. *ret_out (may be NULL) is malloc'ed. */
int git_must(const struct git *g, const char *const *args, char **ret_out, struct why *why) MUST_USE;
/* That error for a command that was run before. */
int git_failed(const struct git *g, const char *const *args, const struct git_out *o, struct why *why);
/* Whether the status was 0; false for every failure too, cancel and timeout included: see git_interrupted. */
bool git_says_yes(const struct git *g, const char *const *args);
#define GIT_ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* OK, or ERR_CANCELLED or ERR_TIMEOUT: then what git seemed to say was perhaps never said. */
int git_interrupted(const struct git *g, struct why *why) MUST_USE;

/* The line of git's messages that tells a person why, and what to do about it where that is known: credentials removed,
 * nothing that a terminal would obey. malloc'ed. */
char *git_reason(const char *err);
/* The end of git's messages, at most GIT_SAID_MAX bytes, cleaned likewise. malloc'ed. */
char *git_said(const char *err);
#define GIT_SAID_MAX 2048
/* Whether what git said is the fault of the machine or its network, not of what was asked for. */
bool git_is_machines_fault(const char *err);
/* What `git check-ref-format` says, and not a name that git could take for an option or for HEAD. Asks no git. */
bool git_ref_is_sound(const char *name);
/* 7 to 64 hex digits. */
bool git_is_sha(const char *s);
