/* fleet/register_priv.h: a Hello on its way through the store. For this folder only. Owned by the job while it runs, by
 * the hub else. */
#pragma once
#include "base/labels.h"
#include "server/fleet/hub_priv.h"
#include "server/fleet/ids.h"
#include "server/fleet/register.h"

#define REASON_MAX 1024

/* A claim that the worker has. */
struct reg_claim {
	char *claim_id, *agent_id;
	char *run_id; /* NULL: no run is active */
};

struct registration {
	struct worker_conn *conn;
	Bullpen__Worker__V1__Hello *hello; /* a copy */
	char *host; /* of the hello, as a line of at most HOST_MAX bytes */
	struct labels labels;
	bool admitted; /* checked and authenticated, the worker id is free: the next job writes it to the store */
	struct tool_set *tools; /* NULL until a job has read them, which it does not before it is known who says it */
	/* Whose it is, from the first job. */
	int64_t team_id;
	int64_t user_id; /* 0: a service account */
	char *account, *key_id;
	char *only_agent, *only_worker; /* of a session token; NULL: any */
	/* The outcome. */
	char code[48];
	struct why why;
	bool fatal;
	int64_t link_epoch;
	bool drained; /* this process was told to go when its runs are over */
	struct reg_claim *claims; /* live ones; of a pool worker at most one */
	size_t n_claims, claims_cap;
	char **call_runs; /* for each call of the hello its run; NULL: nobody waits for it */
};

int registration_refuse(struct registration *r, int rc, const char *code, bool fatal, const char *fmt, ...)
    PRINTF_LIKE(5, 6);
/* register_store.c; jobs. */
int registration_store(struct registration *r) MUST_USE;
struct id_claim registration_id_claim(const struct registration *r);
int registration_refuse_by(struct registration *r, int rc, const struct why *why);
const char *registration_pool(const struct registration *r); /* "" of a personal machine */
bool registration_is_unfit(const struct registration *r);
