/* agent/endpoint.h: where the control plane is; for the worker and the verbs of a terminal.
 * Thread: any for the check; finding reads the environment, so before others start. */
#pragma once
#include "base/errors.h"

/* Checks the URL of a control plane; *ret is malloc'ed, without trailing slash. http:// only for loopback hosts or with
 * `allow_http`. */
int endpoint_check(const char *url, bool allow_http, char **ret, struct why *why) MUST_USE;
/* The URL that no flag gave: environment, config file, default. *ret is malloc'ed and not yet checked. */
int endpoint_find(char **ret, struct why *why) MUST_USE;
