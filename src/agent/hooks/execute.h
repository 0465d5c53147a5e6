/* agent/hooks/execute.h: one hook as a process.
 * Thread: any; blocks until it has ended or its time is over. */
#pragma once
#include "agent/hooks/answer.h"

struct session;

struct hook_process {
	struct session *session; /* NULL: in no box, for a trial by hand */
	const char *command, *dir;
	const char *payload; /* goes to stdin */
	const char *const *env; /* NULL-terminated; sets "NAME=value", unsets "NAME" */
	int cancel_fd; /* 0: none */
	int64_t limit_ms;
};
struct hook_done {
	struct hook_output output; /* its texts are below */
	char *out, *err, *reason;
	int64_t duration_ms;
};
void hook_execute(const struct hook_process *p, struct hook_done *ret);
void hook_done_fini(struct hook_done *d);
