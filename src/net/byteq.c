#include "base/mem.h"
#include "net/http_priv.h"
#include <string.h>

void node_init(struct list_node *n)
{
	n->prev = n->next = n;
}

void node_append(struct list_node *list, struct list_node *n)
{
	n->prev = list->prev;
	n->next = list;
	list->prev->next = n;
	list->prev = n;
}

void node_unlink(struct list_node *n)
{
	if (n->next == NULL)
		return;
	n->prev->next = n->next;
	n->next->prev = n->prev;
	node_init(n);
}

void byteq_add(struct byteq *q, const void *bytes, size_t len)
{
	if (len == 0)
		return;
	if (q->start > q->len) {
		memmove(q->data, q->data + q->start, q->len);
		q->start = 0;
	}
	q->data = mem_grow(q->data, &q->cap, q->len + q->start + len, 1);
	memcpy(q->data + q->start + q->len, bytes, len);
	q->len += len;
}

void byteq_drop(struct byteq *q, size_t n)
{
	ENSURE(n <= q->len);
	q->start += n;
	q->len -= n;
	if (q->len == 0)
		byteq_fini(q);
}

void byteq_fini(struct byteq *q)
{
	free(q->data);
	*q = (struct byteq){0};
}
