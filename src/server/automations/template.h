/* automations/template.h: prompts with places for values of a webhook's body: {{path.to.value}}, {{list.0}}, {{.}} for
 * all of it. Whatever else stands between braces stays as it is.
 *
 * What comes from the body is material, never a part of the instruction: a short value on one line stands in quotes, as
 * JSON; a longer one is quoted line by line below the prompt, and its place names it. What is not in the body, or null,
 * is "(not given)". Thread: any. */
#pragma once
#include "base/json.h"

#define TEMPLATE_VALUE_MAX ((size_t)16 * 1024) /* of each value; what is more is cut in the middle */
#define TEMPLATE_PROMPT_MAX ((size_t)256 * 1024)

/* *ret: malloc'ed. `body` NULL: nothing is given. ERR_TOO_LARGE. */
int template_fill(const char *text, const json_t *body, char **ret) MUST_USE;
