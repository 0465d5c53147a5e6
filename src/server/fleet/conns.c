#include "server/fleet/conns.h"
#include "base/mem.h"

void conns_init(struct conns *c)
{
	*c = (struct conns){.of_key = map_new()};
}

void conns_fini(struct conns *c)
{
	ENSURE(c->n == 0 && map_count(c->of_key) == 0);
	map_free(&c->of_key);
	free(c->list);
	free(c->due_ms);
}

void conns_add(struct conns *c, struct worker_conn *conn)
{
	size_t cap = c->cap;

	c->list = mem_grow(c->list, &c->cap, c->n + 1, sizeof *c->list);
	c->due_ms = mem_grow(c->due_ms, &cap, c->n + 1, sizeof *c->due_ms);
	conn->index = c->n;
	c->due_ms[c->n] = 0;
	c->list[c->n++] = conn;
}

void conns_touch(struct conns *c, const struct worker_conn *conn)
{
	ENSURE(c->list[conn->index] == conn);
	c->due_ms[conn->index] = 0;
}

void conns_due(struct conns *c, const struct worker_conn *conn, int64_t at_ms)
{
	ENSURE(c->list[conn->index] == conn);
	c->due_ms[conn->index] = at_ms;
}

struct worker_conn *conns_of_key(const struct conns *c, const char *key_id)
{
	return map_get(c->of_key, key_id);
}

void conns_set_key(struct conns *c, struct worker_conn *conn, const char *key_id)
{
	ENSURE(conn->key_id == NULL);
	str_set(&conn->key_id, key_id);
	conn->key_next = map_put(c->of_key, key_id, conn);
	if (conn->key_next != NULL)
		conn->key_next->key_before = conn;
}

static void remove_from_key(struct conns *c, struct worker_conn *conn)
{
	if (conn->key_next != NULL)
		conn->key_next->key_before = conn->key_before;
	if (conn->key_before != NULL)
		conn->key_before->key_next = conn->key_next;
	else if (conn->key_next != NULL)
		map_put(c->of_key, conn->key_id, conn->key_next);
	else
		map_remove(c->of_key, conn->key_id);
}

void conns_remove(struct conns *c, struct worker_conn *conn)
{
	ENSURE(c->list[conn->index] == conn);
	if (conn->key_id != NULL)
		remove_from_key(c, conn);
	c->list[conn->index] = c->list[--c->n];
	c->due_ms[conn->index] = c->due_ms[c->n];
	c->list[conn->index]->index = conn->index;
}
