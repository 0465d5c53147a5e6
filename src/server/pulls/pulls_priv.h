#pragma once
#include "server/pulls/pulls.h"

#define PULL_KIND "pull"

/* A row. */
struct pull_row {
	char *id, *agent_id, *run_id, *forge, *repo, *head, *base, *head_commit, *title, *body, *state;
	char *body_sent, *reviewer; /* NULL: none */
	int64_t number; /* 0: none */
	bool draft;
	bool by_token; /* the agent asked for the token's account, not for the app */
};
void pull_row_fini(struct pull_row *r);
int pull_row_load(struct store *st, const char *id, struct pull_row *ret) MUST_USE;

struct pull_outcome {
	const char *state, *error; /* error NULL: none */
	int64_t number;
	const char *url, *body_sent; /* NULL: none */
};
/* The outcome of the row, if it still wants what `row` wanted. */
int pull_row_mark(struct store *st, const struct pull_row *row, const struct pull_outcome *outcome) MUST_USE;
