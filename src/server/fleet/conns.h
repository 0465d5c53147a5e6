/* fleet/conns.h: the connections of the hub: all of them, and those of one key. Adding and removing take constant time,
 * however many there are: streams that come and go at once are cheap to make.
 * Thread: the hub (hub_priv.h). */
#pragma once
#include "base/map.h"
#include "server/fleet/worker_conn.h"

struct conns {
	struct worker_conn **list; /* in no order */
	int64_t
	    *due_ms; /* beside the list: when the tick has to look at the connection; so it goes through numbers only */
	size_t n, cap;
	struct map *of_key; /* key id -> the first of that key, in a list through key_next */
};

void conns_init(struct conns *c);
/* There are none left. */
void conns_fini(struct conns *c);
void conns_add(struct conns *c, struct worker_conn *conn);
/* Something happened to it: the next tick looks at it, whatever it had to wait for. */
void conns_touch(struct conns *c, const struct worker_conn *conn);
/* It was looked at just now, and has to be again then. */
void conns_due(struct conns *c, const struct worker_conn *conn, int64_t at_ms);
/* It is known now with which key the connection was made; once for each. */
void conns_set_key(struct conns *c, struct worker_conn *conn, const char *key_id);
void conns_remove(struct conns *c, struct worker_conn *conn);
/* The first connection of that key, then along key_next; NULL: there is none. */
struct worker_conn *conns_of_key(const struct conns *c, const char *key_id);
