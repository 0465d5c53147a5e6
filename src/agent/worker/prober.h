/* agent/worker/prober.h: a worker that cannot work looks again and again, with back-off, whether it can.
 * One thread does the looking; it hears of failed sessions and says what it found by mailboxes. */
#pragma once
#include "agent/session/health.h"

struct prober;

/* What is to be told to the control plane; code "" is fit. */
struct prober_news {
	char *code, *reason;
};
void prober_news_free(struct prober_news **n);

struct prober_config {
	struct health *health; /* borrowed; the thread's from here on */
	void *ctx;
	void (*wake)(void *ctx); /* any thread: there is news */
};
/* NULL: no thread or no file descriptor could be had. */
struct prober *prober_new(const struct prober_config *cfg);
/* Ends the thread. A look that is under way is cancelled, and tells nothing. NULL is fine. */
void prober_free(struct prober **p);
/* Something showed that the worker is not fit: it looks until it is. Any thread. */
void prober_look(struct prober *p);
/* The oldest news, or NULL. Owner's thread. */
struct prober_news *prober_take(struct prober *p);
