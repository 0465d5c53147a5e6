/* agent/tools/schema.h: the arguments of a call against the tool's JSON Schema.
 * Thread: any. Known are: type object (properties, required, additionalProperties: false), string, integer, boolean,
 * array (items), and enum, minimum, maximum, minLength. Anything else in a schema is for the model's eyes. */
#pragma once
#include "base/json.h"

/* Renames arguments by the pairs "alias", "name", … (NULL-terminated, may be NULL). ERR_INVALID if both are given. */
int schema_apply_aliases(json_t *args, const char *const *pairs, struct why *why) MUST_USE;
/* OK, or ERR_INVALID with a sentence that names the field. Members that are null are removed, whole numbers written as
 * 5.0 become integers: models write both. */
int schema_check(const json_t *schema, json_t *args, struct why *why) MUST_USE;
