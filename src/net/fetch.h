/* net/fetch.h: fetches a URL that somebody outside named, without letting it reach what only we can reach.
 * Thread: any; blocks. */
#pragma once
#include "base/errors.h"
#include "base/strbuf.h"
#include <stdatomic.h>

struct fetch_request {
	const char *url; /* http or https, without userinfo */
	size_t max_bytes;
	int64_t timeout_ms; /* for everything */
	int max_redirects; /* each is checked like the first */
	/* Private, loopback and link-local addresses, those of this machine, and ports other than 80, 443, 8080 and
	 * 8443 are allowed. */
	bool allow_private;
};

/* The body of a 200 answer; *ret must be released with strbuf_fini in any case. ERR_INVALID, ERR_DENIED (an address or
 * port that must not be reached), ERR_NET, ERR_TIMEOUT, ERR_TOO_LARGE with `why`, which repeats nothing of the answer.
 * No proxy is used: what is connected to is what was checked. */
int fetch_url(const struct fetch_request *req, struct strbuf *ret, struct why *why) MUST_USE;

/* The form of such a URL: scheme, no userinfo, a port that is allowed. ERR_INVALID or ERR_DENIED with `why`, which
 * repeats nothing of it. */
int fetch_check_url(const char *url, bool allow_private, struct why *why) MUST_USE;

struct post_request {
	const char *url;
	const char *body;
	const char *const *headers; /* "Name: value", NULL-terminated */
	int64_t timeout_ms; /* for everything */
	bool allow_private; /* as for fetching */
	const atomic_bool *stop; /* set: give up at once; NULL: never */
};
/* POSTs it there. Redirects are not followed, certificates are checked, of the answer only the status is read.
 * ERR_INVALID and ERR_DENIED: it cannot be sent there; ERR_NET and ERR_TIMEOUT: there was no answer. */
int fetch_post(const struct post_request *req, long *ret_status, struct why *why) MUST_USE;

/* Whether this address (struct sockaddr) belongs to the public internet. IPv4 in IPv6 is looked through. */
struct sockaddr;
bool fetch_is_public(const struct sockaddr *address);
/* Whether an interface of this machine has it; also if that cannot be found out. */
bool fetch_is_own(const struct sockaddr *address);
