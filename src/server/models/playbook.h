/* models/playbook.h: reading a prompt as a list of steps. See docs/playbook.md for the format.
 * Thread: any; no state. */
#pragma once
#include "base/json.h"

struct playbook_step {
	char *label; /* "sh: make test", "file notes.txt", "tool grep_search" */
	char *tool;
	json_t *arguments; /* NULL: the block is not valid, `problem` says why */
	char *problem;
	bool must;
};

struct playbook {
	struct playbook_step *steps;
	size_t n, cap;
};

#define PLAYBOOK_STEPS_MAX 1000

/* Reads fenced blocks (CommonMark: three or more backticks or tildes, closed by at least as many of the same, an
 * unclosed one runs to the end). Blocks other than sh, bash, file PATH and tool NAME are prose. ERR_TOO_LARGE: over
 * PLAYBOOK_STEPS_MAX steps. */
int playbook_parse(const char *prompt, struct playbook *ret) MUST_USE;
void playbook_fini(struct playbook *p);
