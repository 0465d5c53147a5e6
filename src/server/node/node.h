/* node/node.h: which control-plane process this is. Rows about live things (connections, claims, run threads) name the
 * node and its epoch, so that a start, or another node, knows whose they are.
 *
 * A node holds a lease while it runs; whoever finds an expired lease may take over what that node owned. Leases go by
 * the database's clock, where several machines share one. One machine with SQLite is one node.
 *
 * Threads: node_start once; the identity is constant afterwards; node_renew from one thread. */
#pragma once
#include "store/store.h"

#define NODE_LEASE_MS 15000
#define NODE_ID_MAX 63

struct node {
	char id[NODE_ID_MAX + 1];
	int64_t epoch; /* of this process: one more than the last start's */
};

/* Takes the next epoch of the node `id` (1 to 63 characters of A-Z a-z 0-9 . _ -) and a lease. Store errors. */
int node_start(struct store *st, const char *id, struct node *ret) MUST_USE;
/* How many others have a lease. Store errors. */
int node_count_peers(struct store *st, const struct node *n, int64_t *ret) MUST_USE;
/* Ends the lease: others take over at once what this node owned. Errors do not matter, the lease ends by itself. */
void node_leave(struct store *st, const struct node *n);
/* In a write transaction: the next node whose lease is over becomes one that cannot write any more, and *ret_id, which
 * is malloc'ed, says whose things are nobody's. only_left: of those that gave it up themselves. ERR_EMPTY: none. */
int node_take_over(struct tx *tx, const struct node *n, bool only_left, char **ret_id) MUST_USE;
/* Whether node_take_over would find one. */
bool node_is_any_over(struct store *st, const struct node *n, bool only_left);
/* Prolongs the lease. ERR_FENCED: another process has this node's name and a later epoch; this one must stop acting. */
int node_renew(struct store *st, const struct node *n) MUST_USE;
