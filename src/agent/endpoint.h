/* agent/endpoint.h: where the control plane is; for the worker and the verbs of a terminal.
 * Thread: any for the check; finding reads the environment, so before others start. */
#pragma once
#include "base/json.h"

/* Checks the URL of a control plane; *ret is malloc'ed, without trailing slash and without the /v1 that people copy
 * from the address of an API. http:// only for loopback hosts or with `allow_http`. */
int endpoint_check(const char *url, bool allow_http, char **ret, struct why *why) MUST_USE;
/* The URL that no flag gave: environment, config file, default. *ret is malloc'ed and not yet checked. */
int endpoint_find(char **ret, struct why *why) MUST_USE;
/* agent.toml: *ret is an object, empty if there is no such file. ERR_INVALID with `why`. */
int agent_config_read(json_t **ret, struct why *why) MUST_USE;
/* The API key: `flag` (may be NULL), else CURSOR_API_KEY. *ret is malloc'ed, without the white space around it that a
 * file or a copy brings along. ERR_EMPTY: there is none. ERR_UNAUTHORIZED with a sentence that does not show it. */
int credential_find(const char *flag, char **ret, struct why *why) MUST_USE;
/* A key or token as it was given, without the white space around it: *ret is malloc'ed. `what` ("the API key of
 * --api-key") begins the sentence. ERR_EMPTY: nothing is left. ERR_UNAUTHORIZED with a sentence. */
int credential_check(const char *what, const char *text, char **ret, struct why *why) MUST_USE;
#define CREDENTIAL_MAX 16384
