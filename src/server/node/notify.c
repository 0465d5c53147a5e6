#include "server/node/notify.h"
#include "base/mem.h"
#include "store/store.h"

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
};

struct notify *notify_new(void)
{
	struct notify *n = NEW(struct notify);

	n->magic = NOTIFY_MAGIC;
	return n;
}

void notify_free(struct notify **n)
{
	free(TAKE(*n));
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

void notify_send(struct notify *n, const struct note *note)
{
	const struct listener *l;

	OBJ_CHECK(n, NOTIFY_MAGIC);
	ENSURE(!tx_write_is_open());
	l = n->listeners[note->kind];
	for (size_t i = 0; i < LISTENERS_MAX && l[i].fn != NULL; i++)
		l[i].fn(l[i].ctx, note);
}
