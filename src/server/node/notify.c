#include "server/node/notify.h"
#include "base/mem.h"
#include "store/store.h"
#include <pthread.h>

#define LISTENERS_MAX 4
#define NOTIFY_MAGIC 0x4e4f5446u

struct listener {
	notify_fn *fn;
	void *ctx;
};

/* Constant once notes are sent, so it needs no lock. */
struct notify {
	unsigned magic;
	struct listener listeners[NOTE_KINDS][LISTENERS_MAX];
	pthread_rwlock_t lock; /* a leaf: the relay's own lock is taken inside */
	struct listener relay; /* fn NULL: none */
};

struct notify *notify_new(void)
{
	struct notify *n = NEW(struct notify);

	n->magic = NOTIFY_MAGIC;
	pthread_rwlock_init(&n->lock, NULL);
	return n;
}

void notify_free(struct notify **np)
{
	struct notify *n = TAKE(*np);

	if (n == NULL)
		return;
	pthread_rwlock_destroy(&n->lock);
	free(n);
}

void notify_listen(struct notify *n, enum note_kind kind, notify_fn *fn, void *ctx)
{
	size_t i = 0;

	OBJ_CHECK(n, NOTIFY_MAGIC);
	while (i < LISTENERS_MAX && n->listeners[kind][i].fn != NULL)
		i++;
	ENSURE(i < LISTENERS_MAX);
	n->listeners[kind][i] = (struct listener){fn, ctx};
}

void notify_set_relay(struct notify *n, notify_fn *fn, void *ctx)
{
	pthread_rwlock_wrlock(&n->lock);
	n->relay = (struct listener){fn, ctx};
	pthread_rwlock_unlock(&n->lock);
}

void notify_send(struct notify *n, const struct note *note)
{
	notify_hear(n, note);
	/* Rooms that end late still tell of things while the relay stops. */
	pthread_rwlock_rdlock(&n->lock);
	if (n->relay.fn != NULL)
		n->relay.fn(n->relay.ctx, note);
	pthread_rwlock_unlock(&n->lock);
}

void notify_hear(struct notify *n, const struct note *note)
{
	const struct listener *l;

	OBJ_CHECK(n, NOTIFY_MAGIC);
	ENSURE(!tx_write_is_open());
	l = n->listeners[note->kind];
	for (size_t i = 0; i < LISTENERS_MAX && l[i].fn != NULL; i++)
		l[i].fn(l[i].ctx, note);
}
