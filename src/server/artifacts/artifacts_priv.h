/* artifacts/artifacts_priv.h: for this folder only. */
#pragma once
#include "server/artifacts/artifacts.h"
#include <pthread.h>
#include <stdatomic.h>

#define ARTIFACTS_MAGIC 0x61727473u

struct artifacts {
	unsigned magic;
	struct artifacts_config cfg; /* texts are own copies */
	char *upload_url; /* NULL: none is set */
	_Atomic(char *) download_url; /* NULL: not known yet */
	struct storage *storage;
	unsigned char key[ARTIFACT_KEY_LEN];
	atomic_bool stopping;
	pthread_t thread;
	bool started;
	pthread_mutex_t lock;
	pthread_cond_t changed;
	bool poked, stop; /* under the lock */
};

/* There may be something for the storage to forget. */
void artifacts_poke(struct artifacts *a);
/* Inside a write: nobody finds it any more, and its content goes. */
int artifact_drop(struct tx *tx, const char *generation) MUST_USE;
/* rows.c: the finished ones by their names; and one of those rows. */
int artifacts_by_name(struct tx *tx, const char *agent_id, int64_t max, struct query **ret) MUST_USE;
void artifact_from_row(struct query *q, struct artifact *ret);
