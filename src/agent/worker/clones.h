/* agent/worker/clones.h: repositories that a request names and this worker does not have (--clone-git-repos).
 *
 * A clone is a folder like those that the worker is given: sessions work in private copies of it, and fetch and push by
 * the worker's own repositories beside it. It stays for the next request, so nothing of a session is in it. A checkout
 * of the same repository that lies directly in one of the worker's folders is taken instead. Thread: the opening's. */
#pragma once
#include "agent/session/session.h"
#include "base/json.h"

#define CLONES_MAX 20 /* of one request */

struct job;

/* The roots of a session: the clones, in the order of the request, then the worker's folders. */
struct clone_set {
	char *paths[CLONES_MAX];
	const char **roots;
	size_t n, n_roots;
};
void clone_set_free(struct clone_set **s); /* NULL is fine */
/* Makes what is missing. `repos`: [{url, startingRef?}]. Another code with `fail`; a clone that was not finished is
 * gone. */
int clones_prepare(const char *clones_dir, const struct session_config *base, const json_t *repos,
    const struct session_open *want, int cancel_fd, int64_t deadline_mono_ms, struct clone_set **ret,
    struct session_failure *fail) MUST_USE;
