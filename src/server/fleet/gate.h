/* fleet/gate.h: how many streams may be open of which it is not known yet who they are from. Everybody who reaches the
 * port can open one and say nothing until the handshake's deadline, so they are bounded in all and for each peer
 * address, before they cost the hub anything.
 * Thread: any; a lock is held for a look-up only. */
#pragma once
#include "base/errors.h"

struct gate;

#define GATE_KEY_LEN 46 /* INET6_ADDRSTRLEN */

/* 0: no limit. */
struct gate *gate_new(unsigned max, unsigned max_per_peer);
/* Nobody may be inside. NULL is fine. */
void gate_free(struct gate **g);
/* `peer` is "address:port" or "[address]:port"; of an IPv6 address the /64 counts. OK: *ret_key is what gate_leave
 * needs. ERR_FULL with `why`. */
int gate_enter(struct gate *g, const char *peer, char ret_key[GATE_KEY_LEN], struct why *why) MUST_USE;
/* Once for each gate_enter: the stream has ended, or it is known now who opened it. Clears the key; an empty one is
 * fine. */
void gate_leave(struct gate *g, char key[GATE_KEY_LEN]);
/* Whether the text has the form of a credential. Its owner is another question. */
bool gate_is_credential(const char *authorization);
