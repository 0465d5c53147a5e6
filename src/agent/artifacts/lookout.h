/* agent/artifacts/lookout.h: watches artifacts/ of one open session and brings what is new there to the artifact host.
 *
 * What was there when the session was opened is not the agent's and stays. A file is brought when it has not changed
 * from one look to the next, at the end of a run as it is. A host that is not reached is tried again, less and less
 * often.
 *
 * Threads: lookout_start and lookout_end by the call that opens and closes the session; the others by any call of the
 * session. It has a thread of its own, which nobody waits for but lookout_await and lookout_end. */
#pragma once
#include "base/json.h"

struct lookout;

struct lookout_grant { /* texts are copied */
	const char *url; /* of the artifact host */
	const char *token;
	int64_t max_file_bytes;
};

/* `root` is the session's first root, copied. NULL: there is no thread left. */
struct lookout *lookout_start(const char *root, const struct lookout_grant *grant);
/* Another opening brought another grant. */
void lookout_renew(struct lookout *w, const struct lookout_grant *grant);
/* A tool has done something: look soon, and often from here on. */
void lookout_poke(struct lookout *w);
/* A run ends: what is there now is brought. Returns at once. */
void lookout_finish(struct lookout *w);
/* Waits for that, until `deadline_mono_ms` or until cancel_fd (-1: none) is readable: [{path, reason}] of what was not
 * brought, a new reference. What is underway then goes on. */
json_t *lookout_await(struct lookout *w, int cancel_fd, int64_t deadline_mono_ms);
/* Stops within a second or two; what is not brought by then is not. The type is that of session_attach. */
void lookout_end(void *w);
