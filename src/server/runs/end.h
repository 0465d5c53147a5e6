/* runs/end.h: the one way a run becomes terminal. For this folder only. Thread: the transaction's. */
#pragma once
#include "server/runs/log.h"

struct run_end {
	const char *status, *result, *error_code, *error_message; /* NULL if none */
};
/* In the transaction of an open log of the run's own loop. ERR_CONFLICT if the run is terminal already. */
int run_end(struct log *l, const struct run_end *end) MUST_USE;
/* The same with a log of its own. */
int run_end_now(struct tx *tx, const char *run_id, const struct run_end *end) MUST_USE;
/* CANCELLED, with the newest text of the model as its result. ERR_CONFLICT likewise. */
int run_cancel_now(struct tx *tx, const char *run_id) MUST_USE;
/* For metrics: after the commit. error_code NULL: none. */
void run_end_count(const char *status, const char *error_code);
