/* runs/sweep.h: the sweeper: a thread that moves on what is overdue and forgets what is old. For this folder only. */
#pragma once
#include "server/runs/runs_priv.h"

int sweeper_start(struct runs *r) MUST_USE;
/* Waits until its thread is gone. */
void sweeper_stop(struct runs *r);
