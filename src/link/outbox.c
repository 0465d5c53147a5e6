#include "link/outbox.h"
#include "base/mem.h"

static void drop_head(struct outbox *b)
{
	struct outbox_frame *f = b->head;

	b->head = f->next;
	if (b->head == NULL)
		b->tail = NULL;
	if (b->unsent == f)
		b->unsent = f->next;
	b->bytes -= f->len;
	free(f->bytes);
	free(f);
}

void outbox_reset(struct outbox *b)
{
	while (b->head != NULL)
		drop_head(b);
	b->last = b->acked = b->highest = 0;
}

void outbox_fini(struct outbox *b)
{
	outbox_reset(b);
}

void outbox_add(struct outbox *b, uint8_t *bytes, size_t len)
{
	struct outbox_frame *f = NEW(struct outbox_frame);

	*f = (struct outbox_frame){.seq = ++b->last, .len = len, .bytes = bytes};
	if (b->tail != NULL)
		b->tail->next = f;
	else
		b->head = f;
	b->tail = f;
	if (b->unsent == NULL)
		b->unsent = f;
	b->bytes += len;
}

const struct outbox_frame *outbox_next(struct outbox *b)
{
	struct outbox_frame *f = b->unsent;

	if (f == NULL)
		return NULL;
	b->unsent = f->next;
	b->highest = MAX(b->highest, f->seq);
	return f;
}

bool outbox_ack(struct outbox *b, uint64_t ack)
{
	if (ack > b->highest)
		return false;
	while (b->head != NULL && b->head->seq <= ack)
		drop_head(b);
	b->acked = MAX(b->acked, ack);
	return true;
}

void outbox_rewind(struct outbox *b)
{
	b->unsent = b->head;
}
