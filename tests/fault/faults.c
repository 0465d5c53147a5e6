/* A server that fails on purpose: `bullpen-faulty` is `bullpen` with the store's entry points wrapped by the linker.
 * The environment says where: BULLPEN_FAULT=MODE:N
 *   fail:N         the N-th write commit from the opening of the store reports a full disk, and keeps nothing
 *   kill-before:N  SIGKILL to itself when the N-th transaction is about to be committed
 *   kill-after:N   SIGKILL to itself when the N-th transaction was committed, before anybody learns of it
 * A test sees by the signal, or by the line "fault: fired" on stderr, that the fault was reached. */
#include "store/store.h"
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int __real_store_open(const char *data_dir, struct store **ret, struct why *why);
int __real_tx_commit(struct tx **tx);
int __wrap_store_open(const char *data_dir, struct store **ret, struct why *why);
int __wrap_tx_commit(struct tx **tx);
int64_t __real_store_give_back(struct store *st, int64_t max_pages);
int64_t __wrap_store_give_back(struct store *st, int64_t max_pages);

static _Atomic long long commits;

/* N if the fault of that mode is asked for, else 0. */
static long long fault(const char *mode)
{
	const char *s = getenv("BULLPEN_FAULT");
	size_t n = strlen(mode);

	return s != NULL && strncmp(s, mode, n) == 0 && s[n] == ':' ? atoll(s + n + 1) : 0;
}

int __wrap_store_open(const char *data_dir, struct store **ret, struct why *why)
{
	int rc = __real_store_open(data_dir, ret, why);

	if (rc == OK && fault("fail") > 0)
		store_fail_commit(*ret, fault("fail"), ERR_NO_SPACE);
	return rc;
}

int __wrap_tx_commit(struct tx **tx)
{
	long long n = atomic_fetch_add(&commits, 1) + 1;
	int rc;

	if (n == fault("kill-before"))
		raise(SIGKILL);
	rc = __real_tx_commit(tx);
	if (n == fault("kill-after"))
		raise(SIGKILL);
	if (rc == ERR_NO_SPACE)
		fprintf(stderr, "fault: fired\n");
	return rc;
}

/* Its commit is inside of the store, where the linker wraps nothing. */
int64_t __wrap_store_give_back(struct store *st, int64_t max_pages)
{
	int64_t left = __real_store_give_back(st, max_pages);

	if (left == ERR_NO_SPACE)
		fprintf(stderr, "fault: fired\n");
	return left;
}
