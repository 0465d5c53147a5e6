/* fleet/register.h: from a Hello to a welcome or a refusal.
 * Thread: the hub (hub_priv.h); the jobs that check and write a registration own it while they run. */
#pragma once
#include "link/link.h"

struct registration;
struct worker_conn;

void registration_begin(struct worker_conn *c, const Bullpen__Worker__V1__Hello *hello);
void registration_free(struct registration **r);
/* A job is done. Takes r: there may be another job. */
void registration_finish(struct registration *r, int64_t now_ms);
/* The connection is probing: is it decided? */
void registration_tick(struct worker_conn *c, int64_t now_ms);
