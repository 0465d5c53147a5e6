/* models/provider.h: a model provider turns (system text, conversation, tools) into text, thinking and tool calls.
 * Thread: any; a request blocks the thread of its loop. Providers are constant after start.
 *
 * The conversation is a JSON array, oldest first:
 *   {"role":"user","text":…,"images":[{"mimeType":…,"data":<base64>}]}                 images may be missing
 *   {"role":"assistant","text":…,"toolCalls":[{"id":…,"name":…,"arguments":{…}}],"native":…}   native may be missing
 *   {"role":"tool","callId":…,"name":…,"outcome":"success|failure|error|rejected","text":…,
 *    "detail":{"exitCode"?,"message"?}}
 * Every call has its result before the next assistant or user message. "native" is what model_result.native was. */
#pragma once
#include "base/json.h"

struct model;

/* What a provider may keep from one request to the next of the same loop, to save itself work. It may be gone at any
 * time. */
struct model_memo {
	void *data;
	void (*free)(void *data);
};
void model_memo_fini(struct model_memo *m);

struct model_request {
	const struct model *model;
	const json_t *params; /* [{id, value}]: every parameter of the model, defaults filled in */
	const char *system;
	const json_t *conversation;
	const json_t *tools; /* [{name, description, parameters, class}]; empty or NULL: none may be called */
	struct model_memo *memo; /* NULL: nothing can be kept */
};

/* The response as it comes. Calls come on the thread that made the request. An error ends the request. */
struct model_sink {
	int (*on_text)(void *ctx, const char *text, size_t len);
	int (*on_thinking)(void *ctx, const char *text, size_t len);
	/* The response broke off and is asked for anew: its text will come again from the beginning. */
	int (*on_restart)(void *ctx);
	bool (*cancelled)(void *ctx); /* true: end the request with ERR_CANCELLED; asked at least once a second */
	void *ctx;
};

struct model_usage {
	int64_t input_tokens; /* without those read from or written to a cache */
	int64_t output_tokens, cache_read_tokens, cache_write_tokens;
};

enum model_stop {
	MODEL_STOP_DONE, /* the response is complete, or wants its calls performed */
	MODEL_STOP_LENGTH, /* cut off by the limit of output */
	MODEL_STOP_REFUSAL, /* it, or a filter of its provider, declined */
	MODEL_STOP_UNPARSED /* what it wrote is a tool call that nobody took for one; not said by providers */
};

struct model_result {
	char *text; /* the whole text, also given to the sink; "" if none */
	/* [{name, arguments}], possibly empty; no call: the text is the final answer. A call whose arguments cannot be
	 * understood has "arguments":{} and "fault": a sentence for the model. */
	json_t *calls;
	json_t *native; /* NULL, or an object the provider wants to find again in the conversation */
	enum model_stop stop;
	struct model_usage usage;
};
void model_result_fini(struct model_result *t);

struct provider {
	const char *name;
	/* Fills *ret on OK. ERR_TOO_LARGE: the request does not fit the model's context; a shorter one may. Other
	 * errors with `why`, which says what to do, end the run as model_error. */
	int (*request)(const struct provider *p, const struct model_request *req, const struct model_sink *sink,
	    struct model_result *ret, struct why *why);
};

extern const struct provider provider_playbook;
