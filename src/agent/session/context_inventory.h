/* agent/session/context_inventory.h: what the workspace tells an agent before it starts: AGENTS.md and rules.
 * Thread: any; reads files. Nothing in the workspace is trusted: links that leave it are not followed. */
#pragma once
#include "base/json.h"

/* Sets info.agentsMd [{path, text}] and info.rules [{path, description, globs[], alwaysApply, text?}]: text only for
 * rules that always apply. Limits: 64 KiB a text, 256 KiB in all, 500 items; what is cut adds to `warnings`. */
void context_inventory(const char *const *roots, size_t n_roots, json_t *info, json_t *warnings);
