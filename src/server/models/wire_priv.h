/* models/wire_priv.h: a provider that is asked over HTTP: its settings, and what differs between the wire formats.
 * Thread: constant after start, but for the pool, which locks. */
#pragma once
#include "net/http_client.h"
#include "server/models/answer_priv.h"
#include "server/models/models.h"

struct remote;

struct wire {
	const char *type; /* as in the settings */
	const char *path; /* behind base_url */
	/* The header of the key: name, and what stands before it. */
	const char *key_header, *key_prefix;
	const struct http_header *fixed_headers; /* ended by a NULL name */
	/* Writes the body. ERR_TOO_LARGE if it does not fit into the buffer. */
	int (*write_request)(const struct remote *p, const struct model_request *req, struct strbuf *body);
	/* One event of the stream. OK, or an error that ends the try (see answer_append). */
	int (*on_event)(struct answer *a, const char *data, size_t len);
	/* A whole answer that came instead of a stream. */
	int (*on_whole)(struct answer *a, const json_t *body);
	/* An object that the provider wants to find again, or NULL. Its name is added as "provider". */
	json_t *(*native)(const struct answer *a);
};
extern const struct wire wire_openai, wire_anthropic;

struct remote {
	struct provider provider; /* first: a provider's request gets this one */
	const struct wire *wire;
	char *name, *base_url; /* without a slash at the end */
	char *url; /* base_url and the wire's path */
	char *key; /* NULL: none */
	char *key_source; /* "api_key_file", "the environment variable X", NULL */
	char *ca_file;
	json_t *headers; /* {name: value} */
	int64_t stall_timeout_ms, connect_timeout_ms, retries;
	char *max_tokens_field; /* openai: what the limit of output is called */
	bool stream_usage; /* openai: send stream_options */
	bool return_reasoning; /* openai: what was thought before calls goes back with them */
	struct http_client_pool *pool;
};

/* A provider's own facts about a model, besides those that people see. */
struct upstream {
	char *name;
	int64_t max_output_tokens; /* 0: not said */
	json_t *parameters; /* merged into the body */
	json_t *options; /* [{id, field, default, values: {"as text": value}}] */
};

int remote_request(const struct provider *p, const struct model_request *req, const struct model_sink *sink,
    struct model_result *ret, struct why *why);
/* Takes every secret out of the text, also one that the text's end cuts off, and what is not printable. malloc'ed, at
 * most `max` bytes. */
char *remote_clean(const struct remote *p, const char *text, size_t len, size_t max);
void remote_free(struct remote **p);
void upstream_free(struct upstream **u);

/* The meaning of an HTTP status other than 2xx, or of an error inside an answer. `body` may be anything. */
void failure_of_status(const struct remote *p, int status, const char *retry_after, const char *content_type,
    const char *body, size_t len, struct failure *ret);
void failure_of_error(struct answer *a, const json_t *error);
/* Seconds or an HTTP date as milliseconds from now_ms (wall clock), at most RETRY_AFTER_MAX_MS; -1: not understood. */
int64_t failure_retry_after(const char *value, int64_t now_ms);
#define RETRY_AFTER_MAX_MS 60000
/* The last word about a try, with what to do: for `why`. */
void failure_explain(const struct remote *p, const struct model_request *req, const struct failure *f, int tries,
    int64_t took_ms, struct why *why);

/* Writing JSON. Texts must be UTF-8, which those of a json_t are; wire_foreign mends the others. */
void wire_foreign(struct strbuf *b, const char *s);
void wire_value(struct strbuf *b, const json_t *v);
/* A text member; "" if there is none. Borrowed. */
const char *wire_field(const json_t *o, const char *key);
/* Name, description and schema of a tool, without the braces. */
void wire_tool(struct strbuf *b, const json_t *tool, const char *schema_key);
/* model, the parameters of the settings and the options chosen: {…}. New reference. */
json_t *wire_head(const struct model_request *req);
/* The members of an object without its braces. */
void wire_members(struct strbuf *b, const json_t *head);
/* The names that calls have on the wire: short, of letters and digits, and the same each time the conversation is
 * told. OpenAI takes 40 bytes, Mistral exactly nine. */
#define WIRE_ID_LEN 10
void wire_call_id(size_t number, char out[WIRE_ID_LEN]);
/* The name of a call, quoted: what servers take for one, letters, digits, '_' and '-'. */
#define WIRE_NAME_MAX 64
void wire_call_name(struct strbuf *b, const char *name);
/* Finds the number of a result's call: of the calls of the last assistant message, which begin at `first`. */
size_t wire_call_number(const json_t *assistant, size_t first, const json_t *result);
#define WIRE_NO_CALL ((size_t)-1)
