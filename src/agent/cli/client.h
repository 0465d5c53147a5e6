/* agent/cli/client.h: talking to the control plane's REST API from a terminal.
 * Thread: the main one; calls block. */
#pragma once
#include "base/json.h"
#include "base/options.h"

struct client {
	char *endpoint; /* without trailing slash */
	char *api_key;
	bool json; /* --json: one JSON object a line */
};

/* Reads argv[1..]: the verb's options, --endpoint, --api-key, --json and --help, and at most max_words other words. OK;
 * or the exit status was decided: *ret_status, with the message or the help printed. */
int client_parse(struct client *c, int argc, char **argv, const struct options *verb, size_t max_words,
    struct option_words *words, int *ret_status) MUST_USE;
void client_fini(struct client *c);

/* One request. OK for 2xx: *ret (may be NULL) is the body. Otherwise the error was printed and *ret_status is the exit
 * status: 2 for what the server calls invalid, else 1. */
int client_call(
    struct client *c, const char *method, const char *path, const json_t *body, json_t **ret, int *ret_status) MUST_USE;

/* Text of a member, "" if there is none. */
const char *json_field(const json_t *o, const char *key);
/* Terminal-safe: control characters of outside text become spaces or '?'. malloc'ed. */
char *client_clean(const char *text);
/* The same for text that belongs into one line. */
char *client_clean_line(const char *text);
void client_print_json(const json_t *o);
/* "agent worker", "agent run": one line "error: …" on stderr. */
void client_error(const char *fmt, ...) PRINTF_LIKE(1, 2);
