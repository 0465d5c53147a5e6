/* Write transactions that are tried again when they lost against another one. */
#include "base/id.h"
#include "store/store.h"
#include <time.h>

#define TRIES_MAX 12
#define PAUSE_MIN_MS 2
#define PAUSE_MAX_MS 100

/* Each pause is random between half of its length and all of it: two transactions that met would meet again. */
static void pause_before_try(unsigned n)
{
	int64_t ms = MIN((int64_t)PAUSE_MIN_MS << MIN(n, 10u), PAUSE_MAX_MS);
	int64_t us = ms * 500 + (int64_t)id_random_below((uint32_t)(ms * 500));
	struct timespec ts = {.tv_sec = us / 1000000, .tv_nsec = (us % 1000000) * 1000};

	nanosleep(&ts, NULL);
}

int store_write(struct store *st, int (*fn)(struct tx *tx, void *arg), void *arg)
{
	int rc = ERR_AGAIN;

	for (unsigned n = 0; rc == ERR_AGAIN && n < TRIES_MAX; n++) {
		AUTO(tx) tx = NULL;

		if (n > 0)
			pause_before_try(n);
		rc = tx_begin(st, TX_WRITE, &tx);
		if (rc == OK)
			rc = fn(tx, arg);
		if (rc == OK)
			rc = tx_commit(&tx);
	}
	return rc;
}
