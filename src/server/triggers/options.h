/* triggers/options.h: what people write around a mention: the options of a request, and the prompt that is left.
 * Pure: text in, text out. Thread: any. */
#pragma once
#include "base/errors.h"
#include "base/json.h"

enum trigger_key {
	TRIGGER_SELF_HOSTED = 1,
	TRIGGER_POOL = 2,
	TRIGGER_WORKER = 4,
	TRIGGER_REPO = 8,
	TRIGGER_ENV = 16,
	TRIGGER_BRANCH = 32,
	TRIGGER_MODEL = 64,
	TRIGGER_AUTOPR = 128,
	TRIGGER_CHANNEL = 256
};

struct trigger_options {
	int self_hosted, autopr; /* -1: not said */
	char *pool, *worker, *repo, *env, *branch, *model, *channel; /* NULL: not said */
	json_t *model_params; /* [{id, value}]; NULL: none */
	char *prompt;
};

struct trigger_text {
	const char *text; /* as the surface shows it, its markup decoded */
	const char *const *mentions; /* "@cursor", NULL-terminated; NULL: none is needed */
	unsigned keys; /* that the surface reads; others stay text */
	bool strict; /* only the newer wording */
	bool drops_comments; /* <!-- … --> are no part of the prompt: a hiding place */
};

/* ERR_EMPTY: it mentions nobody. ERR_INVALID: `why` is a sentence for the person who wrote it. trigger_options_fini in
 * any case. */
int trigger_options_read(const struct trigger_text *t, struct trigger_options *ret, struct why *why) MUST_USE;
/* Whether repo= takes it. */
bool trigger_is_repo(const char *text);
void trigger_options_fini(struct trigger_options *o);
