/* models/answer_priv.h: one answer of a model as it comes in: parts, usage, how it ended. Understood parts go to
 * the sink at once; the whole becomes a model_result. Thread: the request's. */
#pragma once
#include "base/strbuf.h"
#include "server/models/provider.h"

enum part_kind { PART_TEXT, PART_THINKING, PART_REDACTED, PART_CALL };

struct part {
	enum part_kind kind;
	int64_t index; /* as the server counts; -1: it does not */
	struct strbuf text; /* text, thinking, what is redacted, arguments */
	struct strbuf signature; /* of thinking */
	char *id, *name; /* of a call; the id is the server's and not ours, "" if there is none */
};

enum failure_kind {
	FAILURE_NONE,
	FAILURE_RETRY, /* another try may go better */
	FAILURE_FINAL,
	FAILURE_CONTEXT /* the request does not fit the model */
};

struct failure {
	enum failure_kind kind;
	int status; /* HTTP, 0: none or 200 */
	int64_t wait_ms; /* Retry-After, -1: not said */
	char code[64]; /* the server's word for it, may be empty */
	char what[400]; /* "answered 429: slow down", ready for people */
};

struct answer {
	const struct model_sink *sink;
	struct part *parts;
	size_t n_parts, cap_parts;
	size_t bytes; /* of all parts, for the limit */
	struct model_usage usage;
	enum model_stop stop;
	bool stopped; /* the server said why it stopped: the answer is whole */
	bool ended; /* it said that nothing follows */
	bool said; /* the sink was told something */
	bool out_of_context; /* cut off where the context window ends */
	const char *thinking_field; /* openai: the member that thinking came in, a literal; NULL: there was none */
	int sink_rc; /* what the sink answered, if not OK */
	struct failure failure;
};

#define ANSWER_BYTES_MAX ((size_t)8 * 1024 * 1024)
#define ANSWER_PARTS_MAX 1000

void answer_init(struct answer *a, const struct model_sink *sink);
void answer_fini(struct answer *a);

/* The newest part with that index, NULL if there is none. */
struct part *answer_part(struct answer *a, int64_t index);
/* A new part at the end; NULL (and a failure) when there are too many. Valid until the next one. */
struct part *answer_add_part(struct answer *a, enum part_kind kind, int64_t index);
/* Appends to a part, and tells the sink if it is text or thinking. OK, or an error that ends the try: look at sink_rc
 * and failure. `s` may be any bytes. */
int answer_append(struct answer *a, struct part *p, const char *s, size_t len);
/* The same for what has no parts on the wire: goes to the last part if that is of this kind, else to a new one. */
int answer_say(struct answer *a, enum part_kind kind, const char *s, size_t len);
/* Notes the failure and returns ERR_PROTOCOL; the first one stays. */
int answer_fail(struct answer *a, enum failure_kind kind, const char *fmt, ...) PRINTF_LIKE(3, 4);
/* Neither text nor a call. */
bool answer_is_empty(const struct answer *a);
/* Text, calls (with their faults), stop and usage; native stays NULL. */
void answer_take(struct answer *a, struct model_result *ret);

/* One JSON value of a stream, read as leniently as can be: bad UTF-8 and halves of surrogate pairs become U+FFFD.
 * NULL if it is not JSON, or json_is_bomb. */
json_t *answer_json(const char *text, size_t len);
/* A string member with its length; "" if it is missing, null or something else. Borrowed. */
const char *member_str(const json_t *o, const char *key, size_t *ret_len);
/* A number member that is not negative, whatever its type, at most 10^12; 0 otherwise. */
int64_t member_count(const json_t *o, const char *key);
