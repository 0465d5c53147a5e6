#include "link/unacked.h"
#include "base/mem.h"

static void drop_head(struct unacked *b)
{
	struct unacked_frame *f = b->head;

	b->head = f->next;
	if (b->head == NULL)
		b->tail = NULL;
	if (b->unsent == f)
		b->unsent = f->next;
	b->bytes -= f->len;
	free(f->bytes);
	free(f);
}

void unacked_reset(struct unacked *b)
{
	while (b->head != NULL)
		drop_head(b);
	b->last = b->acked = b->highest = 0;
}

void unacked_fini(struct unacked *b)
{
	unacked_reset(b);
}

void unacked_add(struct unacked *b, uint8_t *bytes, size_t len)
{
	struct unacked_frame *f = NEW(struct unacked_frame);

	*f = (struct unacked_frame){.seq = ++b->last, .len = len, .bytes = bytes};
	if (b->tail != NULL)
		b->tail->next = f;
	else
		b->head = f;
	b->tail = f;
	if (b->unsent == NULL)
		b->unsent = f;
	b->bytes += len;
}

const struct unacked_frame *unacked_next(struct unacked *b)
{
	struct unacked_frame *f = b->unsent;

	if (f == NULL)
		return NULL;
	b->unsent = f->next;
	b->highest = MAX(b->highest, f->seq);
	return f;
}

bool unacked_ack(struct unacked *b, uint64_t ack)
{
	if (ack > b->highest)
		return false;
	while (b->head != NULL && b->head->seq <= ack)
		drop_head(b);
	b->acked = MAX(b->acked, ack);
	return true;
}

void unacked_rewind(struct unacked *b)
{
	b->unsent = b->head;
}
