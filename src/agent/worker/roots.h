/* agent/worker/roots.h: the workspace roots as they are registered: path, and whose checkout it is.
 * Thread: the one that starts the worker; runs git. */
#pragma once
#include "agent/worker/options.h"

struct worker_root {
	char *path;
	char *top; /* of the checkout it belongs to; path itself if there is none */
	char *remote_url; /* of origin, without userinfo; "" if none */
	char *host; /* "" if unknown, REPO_URL_LOCAL for a folder */
	char *repo; /* owner/name; "" if none */
};

struct worker_roots {
	size_t n;
	struct worker_root root[WORKER_MAX_DIRS];
};

/* With `why`: ERR_NOT_FOUND: a root is a git checkout and there is no git; ERR_DENIED, ERR_INVALID, ERR_TIMEOUT: git
 * does not want it, it is damaged. */
int roots_read(const struct worker_options *o, struct worker_roots *ret, struct why *why) MUST_USE;
void roots_fini(struct worker_roots *r);
