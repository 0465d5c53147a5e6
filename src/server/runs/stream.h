/* runs/stream.h: the pump: one thread that owns all event streams. It is told which runs have changed, reads them from
 * the store once for all their readers, and hands frames to the exchanges. A reader costs no thread, and a reader of a
 * run that does not change costs nothing but a heartbeat. For this folder only. */
#pragma once
#include "server/runs/runs_priv.h"

/* Listens for NOTE_RUN_CHANGED. */
int pump_start(struct runs *r) MUST_USE;
/* How many readers there are. Any thread. */
size_t pump_readers(const struct runs *r);
/* The HTTP server and all who send notes are gone by now: no callback comes any more. */
void pump_stop(struct runs *r);
