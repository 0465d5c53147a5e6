/* base/pool.h: a fixed pool of threads for short blocking jobs, and detached-start threads with small stacks.
 * Nothing may wait, inside a job, for another job of the same pool. */
#pragma once
#include "base/macros.h"

struct pool;

/* `name` is the thread name (15 bytes). `bound`: jobs that may wait before pool_submit says ERR_FULL. */
struct pool *pool_new(const char *name, unsigned threads, size_t bound);
/* Finishes queued jobs, joins the threads. NULL is fine. Never from one of its own jobs. */
void pool_free(struct pool **p);
/* Runs fn(arg) on a pool thread. ERR_FULL: not taken. Any thread. */
int pool_submit(struct pool *p, void (*fn)(void *arg), void *arg) MUST_USE;

/* Starts a detached thread with a stack of `stack_bytes`. ERR_FULL when the system has no thread left. */
int thread_start(const char *name, size_t stack_bytes, void (*fn)(void *arg), void *arg) MUST_USE;
