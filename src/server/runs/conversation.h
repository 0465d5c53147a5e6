/* runs/conversation.h: a conversation with a model, rebuilt from the store or grown step by step: the same messages
 * either way, because their positions are what a compaction refers to. For this folder only. Thread: the loop's. */
#pragma once
#include "base/json.h"

struct tx;

/* The conversation up to now, in the form of models/provider.h. Images of messages before the position images_from are
 * not loaded; of the others the newest, up to a bound. */
int conversation_load(struct tx *tx, const char *conversation_id, size_t images_from, json_t **ret) MUST_USE;
/* A model that takes no images is told that there were some. */
void conversation_drop_images(json_t *conversation);
/* One step for the end of a conversation. conversation_add_call goes between the two; text may be anything. */
json_t *conversation_begin_step(const char *text, const json_t *native);
void conversation_add_call(json_t *step, const char *id, const char *name, const json_t *args);
/* `stop`: the column steps.stop. An answer that was cut off is followed by a word to go on. */
void conversation_end_step(json_t *conversation, json_t *step, const char *stop);
/* The step is not the final answer although it has no call: it was cut off. */
bool step_goes_on(const char *stop, size_t n_calls);
void conversation_add_result(json_t *conversation, const char *id, const char *name, const char *outcome,
    const char *text, const json_t *detail);
/* Of a result what a conversation keeps besides the text: {"exitCode"?, "message"?}. New reference. */
json_t *conversation_detail(const json_t *result);
