/* agent/artifacts/upload.h: brings one file to the artifact host (docs/worker-protocol.md, Artifacts).
 * Thread: any; blocks. */
#pragma once
#include "base/errors.h"
#include "net/http_client.h"

struct upload_host {
	const char *url; /* without a slash at the end */
	const char *token;
	struct http_client_pool *pool;
	bool (*cancelled)(void *ctx); /* about once a second; true ends it with ERR_CANCELLED */
	void *ctx;
};

/* The whole file at `fd`, whatever its offset, as the artifact `path`; what a former attempt brought is not sent again.
 *   ERR_NET       the host is not reached, or cannot work now: later perhaps
 *   ERR_AGAIN     it is busy: in a moment
 *   ERR_CONFLICT  the file changed meanwhile
 *   ERR_DENIED    it does not take this file: trying again is useless
 * and ERR_CANCELLED, ERR_IO; all with `why`, which names the host where it is about it. *ret_progress: bytes were
 * taken. */
int upload_file(const struct upload_host *h, const char *path, int fd, bool *ret_progress, struct why *why) MUST_USE;
/* "artifacts.example.com:443" of a URL; malloc'ed. */
char *upload_host_name(const char *url);
