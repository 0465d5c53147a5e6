/* base/redact.h: replaces known secrets in text by [REDACTED], whole or in the forms that programs commonly give them
 * (base64, base64url, hexadecimal, percent-encoded, escaped as in JSON; of several lines each line). A guard against
 * accidents: whoever may run a program can print a secret in a form of his own. A value of less than REDACT_MIN bytes
 * is left alone, it would shred ordinary text. Thread: struct redactor is constant once made, any; struct redact_stream
 * belongs to one. */
#pragma once
#include "base/json.h"
#include "base/strbuf.h"

#define REDACT_MIN 6
#define REDACT_MARK "[REDACTED]"

struct redactor;

/* `values`: an object whose values are the secrets. NULL if there is nothing to look for. */
struct redactor *redactor_new(const json_t *values);
void redactor_free(struct redactor **r); /* NULL is fine; wiped */

/* malloc'ed; NULL if the text has none (so the common case copies nothing). `r` NULL: none. */
char *redact_text(const struct redactor *r, const char *text);
/* Every string in it, names of members too, in place. `*j` may become another one. */
void redact_json(const struct redactor *r, json_t **j);

/* Text that comes in pieces: what could be the beginning of a secret is held back until the next one. */
struct redact_stream {
	struct strbuf held;
};
void redact_stream_fini(struct redact_stream *s);
/* Appends to `out` what may be told by now. */
void redact_piece(const struct redactor *r, struct redact_stream *s, const void *data, size_t len, struct strbuf *out);
/* There is nothing more to come. */
void redact_end(const struct redactor *r, struct redact_stream *s, struct strbuf *out);
