/* store/checkpoint.h: keeps the log of a database short; for this folder only.
 * Thread: start and free by the store's owner; tell from any. */
#pragma once
#include "store/driver.h"

struct checkpointer;

int checkpointer_start(
    const struct driver *driver, const char *data_dir, struct checkpointer **ret, struct why *why) MUST_USE;
/* After a commit: so many pages are in the log. Blocks only if far too many are. */
void checkpointer_tell(struct checkpointer *c, int64_t pages);
void checkpointer_free(struct checkpointer **c); /* NULL is fine */
