/* store/sqlite_priv.h: the part of the SQLite driver that keeps the write-ahead log short; for sqlite.c only.
 * Thread: start and free by the store's owner; tell from any. */
#pragma once
#include "base/errors.h"
#include <sqlite3.h>

struct checkpointer;

/* Takes conn, also if it fails. */
int checkpointer_start(sqlite3 *conn, struct checkpointer **ret, struct why *why) MUST_USE;
/* After a commit: so many pages are in the log. Blocks only if far too many are. */
void checkpointer_tell(struct checkpointer *c, int64_t pages);
void checkpointer_free(struct checkpointer **c); /* NULL is fine */
