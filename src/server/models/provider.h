/* models/provider.h: a model provider turns (system text, conversation, tools) into text and tool calls.
 * Thread: any; a turn blocks the run's own thread. Providers are constant after start.
 *
 * The conversation is a JSON array, oldest first:
 *   {"role":"user","text":…}
 *   {"role":"assistant","text":…,"toolCalls":[{"id":…,"name":…,"arguments":{…}}]}
 *   {"role":"tool","callId":…,"name":…,"outcome":"success|failure|error|rejected","text":…,
 *    "detail":{"exitCode"?,"message"?}} */
#pragma once
#include "base/json.h"

struct model_request {
	const char *model_id;
	const json_t *params; /* [{id, value}] */
	const char *system;
	const json_t *conversation;
	const json_t *tools; /* [{name, description, parameters, class}] */
};

/* What a turn says while it runs. Calls come on the thread that called model_turn. An error ends the turn. */
struct model_sink {
	int (*on_text)(void *ctx, const char *text, size_t len);
	bool (*cancelled)(void *ctx); /* true: end the turn with ERR_CANCELLED */
	void *ctx;
};

struct model_usage {
	int64_t input_tokens, output_tokens, cache_read_tokens, cache_write_tokens;
};

struct model_turn {
	char *text; /* the whole text, also given to the sink */
	json_t *calls; /* [{name, arguments}], possibly empty; no call: the turn is the final answer */
	struct model_usage usage;
};
void model_turn_fini(struct model_turn *t);

struct provider {
	const char *name;
	/* Fills *ret on OK. Errors with `why` end the run as model_error. */
	int (*turn)(const struct provider *p, const struct model_request *req, const struct model_sink *sink,
	    struct model_turn *ret, struct why *why);
};

/* A model that people may name. */
struct model {
	const char *id, *display_name, *description;
	const char *aliases[4];
	const struct provider *provider;
	bool is_default;
};

/* The models of this server; constant. */
const struct model *models_all(size_t *ret_n);
/* By id or alias; "default" and "auto" are the default model, as is NULL. NULL if there is none of that name. */
const struct model *model_find(const char *id);

extern const struct provider provider_playbook;
