/* runs/named.h: what a prompt names: "/NAME" at the start of a line is a skill or a command, "@NAME" a rule. The worker
 * has the texts; they are kept with the run and stand below its prompt. Thread: any. */
#pragma once
#include "base/json.h"

/* Candidates, as they stand there, each once: outside of fenced blocks, at most 50. New reference; empty for most
 * prompts. */
json_t *named_in_prompt(const char *prompt);
/* What a worker answered to them (unchecked), as text for the store; NULL: nothing. malloc'ed. */
char *named_take(const json_t *answer);
/* The prompt with that below it; `kept` may be NULL. malloc'ed. */
char *named_append(const char *prompt, const char *kept);
