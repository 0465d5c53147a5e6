/* oauth/web.h: HTTP to addresses that somebody outside named: MCP servers, and what these name in turn. What must hold
 * for all of it is here: https unless an operator listed the host, addresses that only we can reach are refused when
 * they are connected to (whatever name they had), no redirect to another origin, everything bounded. Thread: any; the
 * rules are constant. */
#pragma once
#include "base/errors.h"
#include "base/strbuf.h"
#include <stdatomic.h>

struct web_rules;

/* `hosts`: "mcp.corp.example, 10.0.0.7:8080, [::1]": internal hosts that may be asked, over http too, with a port only
 * there. NULL or "": none. ERR_INVALID with `why`. */
int web_rules_new(const char *hosts, struct web_rules **ret, struct why *why) MUST_USE;
void web_rules_free(struct web_rules **r);

/* The form of such a URL. ERR_INVALID or ERR_DENIED with `why`, which repeats nothing of it but the port. */
int web_check_url(const struct web_rules *r, const char *url, struct why *why) MUST_USE;
/* Whether scheme, host and port are the same. */
bool web_same_origin(const char *a, const char *b);
/* "https://host/path" as RFC 8707 wants it: scheme and host in small letters, no fragment, no port that goes without
 * saying, no '/' alone. malloc'ed; NULL: not a URL. */
char *web_canonical(const char *url);
/* "https://host:port", malloc'ed; NULL: not a URL. */
char *web_origin(const char *url);
/* The path without '/' at the end, "" for none. malloc'ed. */
char *web_path(const char *url);
/* `ref` as it stands in a document of `base`. malloc'ed; NULL: not a URL. */
char *web_resolve(const char *base, const char *ref);

struct web_answer {
	int status;
	struct strbuf body;
	char *content_type, *www_authenticate, *retry_after, *session_id, *location; /* NULL: not said */
};
void web_answer_fini(struct web_answer *a);
/* Whether it says that it is of this type; parameters do not matter. */
bool web_is_type(const struct web_answer *a, const char *type);
/* "Retry-After" in ms, if it is a number of seconds; else `otherwise`. */
int64_t web_retry_ms(const struct web_answer *a, int64_t otherwise);

struct web_request {
	const char *method, *url;
	const char *body; /* NULL: none */
	const char *const *headers; /* "Name: value", NULL-terminated */
	int64_t timeout_ms; /* for everything */
	size_t max_body;
	const atomic_bool *stop; /* set: give up; NULL: never */
};
/* One request on this thread. OK whenever an answer came, whatever its status. Redirects with 307 and 308, of a GET
 * any, are followed within the same origin, three at most; one elsewhere is ERR_DENIED. ERR_INVALID, ERR_DENIED,
 * ERR_NET, ERR_TIMEOUT, ERR_TOO_LARGE with `why`. *ret must be released in any case. */
int web_ask(const struct web_rules *r, const struct web_request *req, struct web_answer *ret, struct why *why) MUST_USE;
