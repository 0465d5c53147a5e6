/* agent/cli/client.h: talking to the control plane's REST API from a terminal.
 * Thread: the main one; calls block. */
#pragma once
#include "agent/exit_status.h"
#include "base/json.h"
#include "base/options.h"

struct http_client_response;

/* For the help of the verbs: what all of them have in common. */
#define CLIENT_EXIT_STATUS                                                                                             \
	"Exit status: 0 done, 2 usage, 3 no key or refused, 4 not found or refused,\n5 the server cannot be reached"

struct client {
	char *endpoint; /* without trailing slash */
	char *api_key;
	bool json; /* --json: one JSON object a line */
	bool no_repo; /* the request names no repository: said if the server wants one */
	bool (*cancelled)(void *ctx); /* NULL: requests are not ended early */
};

/* Reads argv[1..]: the verb's options, --endpoint, --api-key, --json and --help, and at most max_words other words. OK;
 * or the exit status was decided: *ret_status, with the message or the help printed. */
int client_parse(struct client *c, int argc, char **argv, const struct options *verb, size_t max_words,
    struct option_words *words, int *ret_status) MUST_USE;
void client_fini(struct client *c);

/* One request. OK for 2xx: *ret (may be NULL) is the body. Otherwise the error was printed and *ret_status is the exit
 * status. */
int client_call(
    struct client *c, const char *method, const char *path, const json_t *body, json_t **ret, int *ret_status) MUST_USE;

/* An answer that is no success: prints what the server says, and gives the exit status for it. */
int client_refused(struct client *c, const struct http_client_response *r);

/* Text of a member, "" if there is none. */
const char *json_field(const json_t *o, const char *key);
/* One line; what would drive a terminal is escaped. */
void client_print_json(const json_t *o);
/* One line "error: …" on stderr; texts from outside are made harmless. */
void client_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
