/* How a run thread writes: only while it owns the run, and with patience while the store is unavailable. */
#include "base/text.h"
#include "server/runs/run_thread_priv.h"
#include <stdarg.h>
#include <string.h>
#include <time.h>

#define STORE_RETRY_MS 500

int run_fail(struct run *r, const char *code, const char *fmt, ...)
{
	struct why next; /* the arguments may be the text that is there */
	va_list ap;

	r->fail_code = code;
	va_start(ap, fmt);
	vsnprintf(next.text, sizeof next.text, fmt, ap);
	va_end(ap);
	r->why = next;
	r->why.text[text_utf8_whole(r->why.text, strlen(r->why.text))] = '\0';
	return ERR_INVALID;
}

static int write_once(struct run *r, run_write_fn *fn, void *arg)
{
	AUTO(tx) tx = NULL;
	struct log log;
	int rc = tx_begin(r->runs->cfg.store, TX_WRITE, &tx);

	if (rc == OK)
		rc = log_open(&log, tx, r->info->id);
	if (rc == ERR_NOT_FOUND || (rc == OK && (!log.active || log.epoch != r->epoch)))
		return ERR_FENCED;
	r->log = &log;
	r->ended = false;
	if (rc == OK)
		rc = fn(r, tx, arg);
	r->log = NULL;
	if (rc == OK)
		rc = log_close(&log);
	return rc != OK ? rc : tx_commit(&tx);
}

/* Nobody needs to cut this short: stopping is looked at after each. */
void run_pause_for_store(void)
{
	nanosleep(&(struct timespec){.tv_nsec = STORE_RETRY_MS * 1000000L}, NULL);
}

int run_write(struct run *r, run_write_fn *fn, void *arg)
{
	for (;;) {
		int rc = write_once(r, fn, arg);

		if (rc == OK)
			stream_notify(r->runs, r->info->id);
		if (!store_is_unavailable(rc))
			return rc;
		store_log_unavailable(r->runs->cfg.store, rc);
		if (atomic_load(&r->runs->stopping))
			return ERR_CLOSED;
		run_pause_for_store();
	}
}
