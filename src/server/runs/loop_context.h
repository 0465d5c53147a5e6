/* runs/loop_context.h: what a loop's model is shown of its conversation, and making room in it. For this folder only.
 * Thread: the loop's. */
#pragma once
#include "server/runs/context.h"
#include "server/runs/run.h"

/* From the store, as the model of this loop is shown it. */
int loop_context_load(struct loop *l, struct context *ret) MUST_USE;
/* Before the model is asked: if the context is nearly full, makes it smaller. */
int loop_context_fit(struct loop *l, struct context *c, int64_t step) MUST_USE;
/* After the model refused it: makes it smaller, more harshly each time (*level counts). */
int loop_context_refused(struct loop *l, struct context *c, int64_t step, unsigned *level) MUST_USE;

/* system.c: the system text from what the worker said about its workspace, and what is this loop's own. malloc'ed. */
struct loop_words {
	bool plans; /* it may only read */
	bool is_nested;
	const char *team; /* the team's rules; NULL: none */
	const char *user; /* her own rules; NULL: none */
	const char *own; /* what a nested loop is told besides; NULL: nothing */
	const char *mcp; /* what MCP servers say of themselves; NULL: nothing */
	const char *subagents; /* whom the user gave it for its tasks; NULL: nobody */
};
char *context_system_text(const json_t *session_info, const struct loop_words *w);
