/* agent/tools/tool_io.h: small things that tools share.
 * Thread: that of the call. */
#pragma once
#include "agent/tools/tool.h"
#include "agent/session/exec.h"
#include "agent/session/session.h"
#include "agent/session/workspace.h"

/* tool_error with what the refusal says. */
void tool_refuse(struct tool_call *call, const struct refusal *r);
/* String argument, or `otherwise`. Borrowed. */
const char *arg_string(const struct tool_call *call, const char *name, const char *otherwise);
int64_t arg_int(const struct tool_call *call, const char *name, int64_t otherwise);
bool arg_bool(const struct tool_call *call, const char *name);
/* The path argument's place; on failure the call has its error. */
int arg_place(struct tool_call *call, const char *name, const char *otherwise, struct place *ret) MUST_USE;
/* The rules that come with a file which was read or written, once each: told behind the model text of the success. New
 * reference, as of rules_for. */
json_t *attach_rules(struct tool_call *call, const struct place *p);
/* When a call that may take limit_ms has to be over. */
int64_t call_deadline(const struct tool_call *call, int64_t limit_ms);
/* Lines of a text; a last one without line end counts. */
int64_t count_lines(const char *text, size_t len);
