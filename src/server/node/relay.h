/* node/relay.h: notes between the nodes of one store. What this node tells itself it also tells the others, over the
 * store's channel; what they tell, its listeners hear as if it had happened here. A note that is lost on the way is
 * made good by NOTE_MISSED, which every listener hears when the channel had a gap, and every few seconds while there
 * are other nodes.
 *
 * Threads: relay_look from one; the others once, at start and stop. */
#pragma once
#include "server/node/node.h"
#include "server/node/notify.h"

struct relay;
/* What is told goes to the others from now on. A store that is not shared has no relay: *ret NULL. st and n are
 * borrowed. */
int relay_start(struct store *st, const struct node *node, struct notify *n, struct relay **ret) MUST_USE;
/* All listeners were added: what the others tell is heard from now on. NULL is fine. */
void relay_listen(struct relay *r);
/* No note goes or comes any more. Before the first room that listens is freed. NULL is fine. */
void relay_stop(struct relay *r);
/* After the last who calls relay_look. NULL is fine. */
void relay_free(struct relay **r);
/* Every second or so: whether there are others to tell. NULL is fine. */
void relay_look(struct relay *r, int64_t now_mono_ms);
