/* base/mailbox.h: the road between threads: a bounded queue of pointers with one reader.
 * Thread: any may post; one thread receives. A message moves: after a successful post the sender has no pointer.
 * Shared life: the mailbox is counted, because closing races with posting (an inbox outlives its posters). */
#pragma once
#include "base/macros.h"

struct mailbox;

/* `drop` disposes of messages that nobody will read; may be NULL. The caller holds one reference. */
struct mailbox *mailbox_new(size_t bound, void (*drop)(void *msg));
struct mailbox *mailbox_ref(struct mailbox *m);
/* Gives one reference back and clears the pointer; the last one drops what is left. NULL is fine. */
void mailbox_free(struct mailbox **m);

/* OK: the mailbox owns msg. ERR_FULL or ERR_CLOSED: the caller still does. Never blocks. */
int mailbox_post(struct mailbox *m, void *msg) MUST_USE;
/* As mailbox_post, but past the bound: for the few messages that must not be lost (an end, a cancel). */
int mailbox_post_always(struct mailbox *m, void *msg) MUST_USE;
/* As mailbox_post_always, but the reader is not woken: mailbox_wake() must follow. For a poster that holds something
 * which the reader wants next. */
int mailbox_put(struct mailbox *m, void *msg) MUST_USE;
void mailbox_wake(struct mailbox *m);
/* Oldest message, waiting until the monotonic deadline (ms; INT64_MAX: no limit).
 * ERR_TIMEOUT, or ERR_CLOSED once closed and empty. Reader only. */
int mailbox_receive(struct mailbox *m, int64_t deadline_mono_ms, void **ret_msg) MUST_USE;
/* No more posts; what is queued can still be received. Wakes the reader. */
void mailbox_close(struct mailbox *m);
