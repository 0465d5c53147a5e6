/* agent/hooks/transcript.h: what hooks can read of a conversation: JSON lines in a file of its own for each one,
 * {"role", "message": {"content": […]}}. The control plane knows what was said; it tells it with the calls that hooks
 * stand around, more than once where it does not know whether it came.
 *
 * Thread: any; locked, a leaf. */
#pragma once
#include "base/json.h"

struct transcripts;

/* `dir` exists and belongs to one session; what is there of an earlier process goes. `keep_dir` (NULL: none) is where
 * they go in the end. */
struct transcripts *transcripts_new(const char *dir, const char *keep_dir);
/* The files go with it, or to keep_dir. */
void transcripts_free(struct transcripts **t);
/* `news` is {"from", "upto", "lines": [{"at", "line"}]}: those that are there already are passed over. */
void transcripts_take(struct transcripts *t, const char *conversation_id, const json_t *news);
/* malloc'ed; NULL: there is none yet. */
char *transcripts_path(struct transcripts *t, const char *conversation_id);
/* How many messages of the conversation were told. */
int64_t transcripts_next(struct transcripts *t, const char *conversation_id);
