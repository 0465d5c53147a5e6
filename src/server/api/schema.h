/* api/schema.h: what a route's JSON Schema says of a value that a client sent.
 *
 * Known are: type (object, array, string, integer, boolean), properties, required, additionalProperties (false or a
 * schema), maxProperties, items, maxItems, minLength, enum, minimum, maximum, default (of query parameters). Further
 * words (description, maxLength, format, …) are for readers; what they say is checked by handlers. Thread: any; schemas
 * are constant once parsed. */
#pragma once
#include "base/json.h"

/* Parses a schema of ours. It asserts that only known types are used, so that a mistake shows at the start. New
 * reference. */
json_t *schema_parse(const char *text);
/* OK, or ERR_INVALID with a sentence that names the member. It never holds the value of a member. */
int schema_check_body(const json_t *schema, const json_t *body, struct why *why) MUST_USE;
/* A value of a query or form, by the type that `schema` (of this one parameter) names: a new reference. ERR_INVALID
 * with the sentence. */
int schema_read_text(const json_t *schema, const char *name, const char *text, json_t **ret, struct why *why) MUST_USE;
/* Sets the defaults of absent members. */
void schema_fill(const json_t *schema, json_t *values);
