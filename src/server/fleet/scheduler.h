/* fleet/scheduler.h: the thread that pairs requests with workers. */
#pragma once
#include "server/fleet/fleet.h"

int scheduler_start(struct fleet *f) MUST_USE;
/* Requests or workers changed. Cheap, coalesces. */
void scheduler_wake(struct fleet *f);
