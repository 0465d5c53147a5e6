/* base/pool.h: a fixed pool of threads for short blocking jobs, and detached-start threads with small stacks.
 * Nothing may wait, inside a job, for another job of the same pool. */
#pragma once
#include "base/macros.h"

struct pool;

/* `name` is the thread name (15 bytes). `bound`: jobs that may wait before pool_submit says ERR_FULL. */
struct pool *pool_new(const char *name, unsigned threads, size_t bound);
/* Finishes queued jobs and joins the threads; pool_submit says ERR_CLOSED from then on. Never from one of its own jobs.
 */
void pool_stop(struct pool *p);
/* Stops it if it was not, and frees it. NULL is fine. */
void pool_free(struct pool **p);
/* Runs fn(arg) on a pool thread. ERR_FULL, ERR_CLOSED: not taken. Any thread. */
int pool_submit(struct pool *p, void (*fn)(void *arg), void *arg) MUST_USE;

/* Starts a detached thread with a stack of `stack_bytes`. ERR_FULL when the system has no thread left. */
int thread_start(const char *name, size_t stack_bytes, void (*fn)(void *arg), void *arg) MUST_USE;
