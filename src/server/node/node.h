/* node/node.h: which control-plane process this is. Rows about live things (connections, claims, run threads) name the
 * node and its epoch, so that a start, or another node, knows whose they are.
 *
 * A node holds a lease while it runs; whoever finds an expired lease may take over what that node owned. One machine
 * with SQLite is one node.
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
int node_start(struct store *st, const char *id, int64_t now_ms, struct node *ret) MUST_USE;
/* Prolongs the lease. ERR_FENCED: another process has this node's name and a later epoch; this one must stop acting. */
int node_renew(struct store *st, const struct node *n, int64_t now_ms) MUST_USE;
