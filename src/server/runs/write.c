/* How a loop writes: only while its thread owns the run, and with patience while the store is unavailable. */
#include "base/mem.h"
#include "base/text.h"
#include "server/runs/end.h"
#include "server/runs/run.h"
#include "server/runs/stream.h"
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define STORE_RETRY_MS 500
#define FAIL_TEXT_MAX ((size_t)8 * 1024)

int loop_fail(struct loop *l, const char *code, const char *fmt, ...)
{
	struct why next;
	AUTO_STR whole = NULL; /* first: the arguments may be the text that is there */
	va_list ap;

	l->fail_code = code;
	va_start(ap, fmt);
	whole = str_vprintf(fmt, ap);
	va_end(ap);
	whole[text_utf8_cut(whole, strlen(whole), FAIL_TEXT_MAX)] = '\0';
	snprintf(next.text, sizeof next.text, "%s", whole);
	free(l->fail_text);
	l->fail_text = strlen(whole) >= sizeof next.text ? TAKE(whole) : NULL;
	l->why = next;
	l->why.text[text_utf8_whole(l->why.text, strlen(l->why.text))] = '\0';
	return ERR_INVALID;
}

/* The epoch is compared inside the transaction, and log_close names it again in its UPDATE: of two threads that both
 * believe to have the run, the one that was taken over changes nothing from then on. */
int loop_begin_write(struct loop *l)
{
	int rc;

	ENSURE(l->tx == NULL);
	ENSURE(l->id == NULL || pthread_equal(l->thread, pthread_self())); /* no id: it is just becoming a row */
	rc = tx_begin(l->run->runs->cfg.store, TX_WRITE, &l->tx);
	l->ended = false;
	l->progress = l->committed;
	if (rc == OK)
		rc = log_open(&l->log, l->tx, l->run->info->id, l->parent_call_id);
	if (rc == ERR_NOT_FOUND || (rc == OK && (!l->log.active || l->log.epoch != l->run->epoch)))
		rc = ERR_FENCED;
	return rc;
}

/* Nothing needs to cut this short: stopping is looked at after each. */
void run_pause_for_store(void)
{
	nanosleep(&(struct timespec){.tv_nsec = STORE_RETRY_MS * 1000000L}, NULL);
}

bool loop_end_write(struct loop *l, int *rc)
{
	struct runs *runs = l->run->runs;

	ENSURE(*rc != OK || tx_write_is_open());
	if (*rc == OK)
		*rc = log_close(&l->log);
	if (*rc == OK)
		*rc = tx_commit(&l->tx);
	else
		tx_free(&l->tx);
	if (*rc == OK) {
		l->committed = l->progress;
		if (l->ended)
			run_end_count(l->fail_code != NULL ? "ERROR" : "FINISHED", l->fail_code);
		run_changed(runs, l->run->info->id);
	}
	if (*rc == ERR_AGAIN && !atomic_load(&runs->stopping))
		return true; /* lost against another transaction: at once again */
	if (!store_is_unavailable(*rc))
		return false;
	store_log_unavailable(runs->cfg.store, *rc);
	if (atomic_load(&runs->stopping)) {
		*rc = ERR_CLOSED;
		return false;
	}
	run_pause_for_store();
	return true;
}
