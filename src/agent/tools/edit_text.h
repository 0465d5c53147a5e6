/* agent/tools/edit_text.h: replacing pieces of a text.
 * Thread: any. */
#pragma once
#include "agent/session/workspace.h"
#include "base/json.h"

/* Applies [{oldText, newText, replaceAll?}] (checked by the schema) in order, all or nothing. A text whose lines all
 * end in CRLF is edited as if they ended in LF, and keeps them. An oldText of several lines that is there once but for
 * its line ends is taken, and the line ends of that place stay. Refusals: "no_match" with the nearest line,
 * "not_unique" with the count, "invalid_arguments", "too_large". *ret is malloc'ed. */
int edit_text(const char *text, const json_t *edits, size_t max, char **ret, struct refusal *r) MUST_USE;
