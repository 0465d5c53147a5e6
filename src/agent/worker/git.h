/* agent/worker/git.h: git as a program: never asking, never waiting for ever, its last word as the reason.
 * Thread: any; a call blocks. What comes from outside must be checked by git_ref_is_sound, or follow "--" or "=". */
#pragma once
#include "base/errors.h"

struct git {
	const char *dir; /* where git runs */
	const char *agent_id;
	const char *scratch_dir;
	int cancel_fd;
	int64_t deadline_mono_ms;
};

struct git_out {
	int status;
	char *out; /* without the last newline; at most 512 KiB, see exec.h */
	char *err;
};
void git_out_fini(struct git_out *o);

/* Runs `git ARGS`. OK: it ended by itself, whatever its status. ERR_TIMEOUT, ERR_CANCELLED, or it did not start. */
int git_run(const struct git *g, const char *const *args, struct git_out *ret, struct why *why) MUST_USE;
/* The same, but a status other than 0 is ERR_INVALID with git's reason. *ret_out (may be NULL) is malloc'ed. */
int git_must(const struct git *g, const char *const *args, char **ret_out, struct why *why) MUST_USE;
/* Whether the status was 0; false for every failure too, cancel and timeout included: see git_interrupted. */
bool git_says_yes(const struct git *g, const char *const *args);
#define GIT_ARGS(...) ((const char *const[]){__VA_ARGS__, NULL})

/* OK, or ERR_CANCELLED or ERR_TIMEOUT: then what git seemed to say was perhaps never said. */
int git_interrupted(const struct git *g, struct why *why) MUST_USE;

/* The line of git's messages that tells a person why: credentials removed. malloc'ed. */
char *git_reason(const char *err);
/* What `git check-ref-format` says, and not a name that git could take for an option or for HEAD. */
bool git_ref_is_sound(const struct git *g, const char *name);
/* 7 to 64 hex digits. */
bool git_is_sha(const char *s);
