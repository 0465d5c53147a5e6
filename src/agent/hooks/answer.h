/* agent/hooks/answer.h: what one hook said by its output and its end, and what several said together.
 * Thread: any; pure. */
#pragma once
#include "agent/hooks/config.h"

#define HOOK_OUT_MAX ((size_t)1024 * 1024)
#define HOOK_ERR_MAX ((size_t)64 * 1024)
#define HOOK_CONTEXT_MAX ((size_t)64 * 1024) /* of one hook, of what the model gets to read */

enum hook_ending { HOOK_EXITED, HOOK_KILLED, HOOK_TIMED_OUT, HOOK_NOT_STARTED };

/* How one process ended. Borrowed. */
struct hook_output {
	enum hook_ending ending;
	int code; /* exit status, or signal number */
	const char *out;
	size_t out_len;
	bool out_cut; /* there was more than HOOK_OUT_MAX */
	const char *err; /* UTF-8 */
	int64_t limit_ms;
	const char *reason; /* HOOK_NOT_STARTED */
};

/* What "ask" means where nobody can be asked. */
enum hook_ask { HOOK_ASK_BY_EVENT, HOOK_ASK_DENY, HOOK_ASK_ALLOW };

struct hook_answer {
	bool refuses;
	char *model_text; /* of a refusal: for the model; with the hook named */
	char *user_text; /* the same for a person; NULL: the same text */
	json_t *fields; /* the checked members that mean something for the event; NULL: none */
	char *fault; /* a line for the log and the run; NULL: all went well */
};
void hook_answer_fini(struct hook_answer *a);

/* Reads the outcome (hooks.md 5). *ret is filled in any case. */
void hook_answer_read(const struct hook_source *s, const struct hook_entry *h, enum hook_ask ask,
    const struct hook_output *o, struct hook_answer *ret);
/* Of a hook whose pattern cannot be used and that is set to fail closed. */
void hook_answer_broken(const struct hook_entry *h, struct hook_answer *ret);

/* All answers for one event and one subject. */
struct hook_verdict {
	bool refuses;
	char *model_text, *user_text; /* of the refusals, joined */
	char *user_message; /* without a refusal: something for a person; NULL: nothing */
	char *context; /* additional_context, joined; NULL: none */
	char *followup; /* NULL: none */
	json_t *updated_input, *updated_output; /* NULL: none */
	json_t *env; /* NULL: none */
	json_t *faults; /* array of texts; NULL: none */
	size_t ran;
	int rank_input, rank_output, rank_followup; /* of whose answer it is */
};
void hook_verdict_fini(struct hook_verdict *v);
/* Adds one answer, in the order in which hooks are configured: by rank, then as in the file. */
void hook_verdict_add(struct hook_verdict *v, const struct hook_source *s, const struct hook_answer *a);
/* The verdict as it goes to the control plane (docs/worker-protocol.md, RUN_HOOKS), and "permission" in words. */
json_t *hook_verdict_json(const struct hook_verdict *v);
/* Whether a key that a hook's `env` names may be set. */
bool hook_env_allowed(const char *name, const char *value);
