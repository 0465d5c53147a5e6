/* agent/worker/outflow.h: output of one running call on its way to the loop: coalesced, bounded, best effort.
 * Thread: outflow_add by the call's thread, which may wait a little; the rest by the loop's, which never does. */
#pragma once
#include "base/macros.h"

#define OUTFLOW_CHUNK (16 * 1024)
#define OUTFLOW_TOTAL (1024 * 1024) /* of one call; what is beyond is only in its result */
#define OUTFLOW_WAIT_MS 1000
#define OUTFLOW_PACE_MS 100
#define OUTFLOW_PROGRESS_MAX 200

struct outflow;

/* `wake` is called on the call's thread when there is something for the loop to do. */
struct outflow *outflow_new(void (*wake)(void *ctx), void *ctx);
void outflow_free(struct outflow **o);

/* stream: 1 stdout, 2 stderr; 3: what the call is doing at the moment, a short line that replaces the one before and
 * takes nothing of its output's share. */
void outflow_add(struct outflow *o, int stream, const void *data, size_t len);

/* Hands over what is due through `send`, which says whether it took it. Returns the monotonic time of the next call,
 * INT64_MAX if there is nothing. `all`: what is not due yet, too. */
int64_t outflow_pump(struct outflow *o, int64_t now_mono_ms, bool all,
    bool (*send)(void *ctx, int stream, const void *data, size_t len), void *ctx);
