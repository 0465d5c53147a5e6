/* agent/worker/nap.h: notices that the machine slept (a laptop that was closed, a machine that was suspended). The
 * connection is most likely dead then, and every other clock of the worker stood still, so nothing else would tell.
 * A changed wall clock alone is not a nap. Costs nothing while nothing happens.
 * Thread: the loop's. */
#pragma once
#include "base/macros.h"
#include <uv.h>

/* How much more time passed on the clock that counts sleep (`boot`) than on the one that does not (`mono`), since the
 * last time that was asked; 0 for less than NAP_LEAST_MS. *gap is the state; -1 at first. */
int64_t nap_between(int64_t *gap, int64_t mono_ms, int64_t boot_ms);
#define NAP_LEAST_MS 2000

struct nap;

/* `on_nap` with the length of the nap. NULL if the kernel cannot tell. */
struct nap *nap_watch(uv_loop_t *loop, void (*on_nap)(void *ctx, int64_t ms), void *ctx);
/* The loop must run once more. */
void nap_free(struct nap **n);
