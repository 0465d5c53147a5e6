/* runs/context.h: how much of a conversation the model is shown.
 *
 * The whole conversation stays in the store. The model is shown the whole, or, once that came near its window, a
 * summary in place of its older part, with older tool results cut (docs/models.md states the rule). Positions count the
 * messages of the whole conversation.
 *
 * Thread: the run's. */
#pragma once
#include "base/json.h"

struct tx;

struct compaction {
	int64_t seq, step;
	char *loop_id;
	size_t summarised; /* messages before this position are replaced by the summary; 0: none */
	char *summary;
	size_t shortened; /* results before this position are cut */
	size_t result_max; /* to so many bytes */
};
void compaction_fini(struct compaction *c);

struct context {
	json_t *messages; /* as shown, in the form of models/provider.h */
	struct compaction compaction; /* that made it so; seq 0: none */
	/* The provider's count for the newest answer and all before it, and the number of those messages. */
	int64_t counted_tokens;
	size_t counted_messages;
};
void context_fini(struct context *c);
/* Takes the whole conversation and applies the compaction, which is taken too. */
void context_init(struct context *c, json_t *whole, struct compaction *compaction);

/* How many messages the whole conversation has. */
size_t context_length(const struct context *c);
/* A guess at tokens: what was counted plus the text that came after it; `fixed_bytes`: system text and tools. */
int64_t context_tokens(const struct context *c, size_t fixed_bytes);
/* Takes the provider's count for all messages up to now, the answer included. */
void context_counted(struct context *c, int64_t tokens);

/* One step of making room, from mild (0) to harsh (CONTEXT_LEVELS - 1). */
#define CONTEXT_LEVELS 4
struct context_cut {
	size_t summarise; /* so many of the shown messages become a summary; 0: none */
	size_t shorten; /* results in so many of the shown messages are cut */
	size_t result_max;
};
/* ERR_EMPTY: this level would change nothing. */
int context_plan(const struct context *c, int64_t window, unsigned level, struct context_cut *ret) MUST_USE;
/* A guess at the tokens after such a cut, with a summary of so many. */
int64_t context_tokens_after(
    const struct context *c, const struct context_cut *cut, size_t fixed_bytes, int64_t summary);
/* The first n shown messages as text for the one who summarises, at most max bytes. malloc'ed. */
char *context_transcript(const struct context *c, size_t n, size_t max);
/* The text that stands in their place. malloc'ed. */
char *context_summary_text(const struct context *c, size_t n, const char *summary);
/* The compaction to be stored for that cut; `summary` (NULL if nothing is summarised) is the text that stands in. The
 * context stays as it is: it is made anew from the store, so that a restart cannot show anything else. */
void context_decide(
    const struct context *c, const struct context_cut *cut, const char *summary, struct compaction *ret);

/* The newest compaction of the conversation; zero if there is none. */
int compaction_load(struct tx *tx, const char *conversation_id, struct compaction *ret) MUST_USE;
int compaction_store(struct tx *tx, const char *conversation_id, const struct compaction *c) MUST_USE;
