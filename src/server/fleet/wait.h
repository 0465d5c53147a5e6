/* fleet/wait.h: the reasons themselves, for wait.c (one request) and queue_view.c (many). For this folder only. */
#pragma once
#include "server/fleet/queue.h"

#define WAIT_UNFIT_MAX 3 /* unfit workers that a reason names */

/* A matching worker that is unfit. */
struct wait_unfit {
	int64_t idle_since; /* the one that would be matched first comes first */
	char *id, *text; /* text: "NAME (ID on HOST) REASON" */
};
/* Takes nothing; texts are made. */
struct wait_unfit wait_unfit_new(
    int64_t idle_since, const char *id, const char *name, const char *host, const char *reason);
void wait_unfit_fini(struct wait_unfit *u);

/* What decides why a request waits. */
struct wait_facts {
	int64_t lost_at; /* of its claim; 0: the worker is there */
	bool over_cap; /* its user runs as many as a user may */
	int64_t running; /* of that user; of a machine, on it */
	int64_t connected; /* workers of its pool, or its machines, but for those that are on their way out */
	int64_t stopping; /* those */
	int64_t serving; /* of those, what serves its repository */
	int64_t without_repo; /* of those in pool default that serve none */
	int64_t matching; /* of those that serve it, what has its labels */
	const char *nobody_has; /* a wanted label that none of its pool's workers has; borrowed from the request */
	int64_t free; /* of those: to be had at once */
	int64_t unfit; /* of those */
	/* Of the matching ones that are fit: those which could not open the session of this run, and how many of them
	 * are free. They get it again only if there is no other. */
	int64_t tried, tried_free;
	int64_t position; /* in the queue, from 1; 0: not counted */
	/* The first of the unfit ones, borrowed, for the text. */
	const struct wait_unfit *first_unfit[WAIT_UNFIT_MAX];
	size_t n_first_unfit;
};
/* Keeps the order: the first WAIT_UNFIT_MAX of all that are given. */
void wait_add_unfit(struct wait_facts *f, const struct wait_unfit *u);
/* A literal; NULL if it does not wait. */
const char *wait_code(const struct queue_group *r, const struct wait_facts *f, int64_t now_ms);
/* {code, text, since, position?}; a new reference, NULL if it does not wait. */
json_t *wait_json(const struct queue_group *r, const struct wait_facts *f, int64_t now_ms, int64_t grace_ms);
