/* fleet/fleet_rows.h: workers and pools as the fleet API shows them. Inside the caller's transaction; any thread. */
#pragma once
#include "base/json.h"
#include "store/store.h"

enum fleet_scope { FLEET_ALL, FLEET_TEAM, FLEET_PERSONAL };
enum fleet_use { FLEET_ANY_USE, FLEET_IN_USE, FLEET_IDLE };

/* Whose workers: machines of the person, and those that have an agent of the owner. owner NULL: everybody's. */
struct fleet_person {
	const char *owner;
	int64_t user_id;
};

struct fleet_page {
	int64_t team_id;
	struct fleet_person of;
	enum fleet_scope scope;
	enum fleet_use use;
	int64_t limit;
	/* Behind this one; INT64_MAX and "": from the beginning. */
	int64_t before_ms;
	const char *before_id;
};
/* Connected workers, newest connection first. *ret_next_id (malloc'ed) and *ret_next_ms: the last of this page, NULL if
 * there are no more behind it. *ret_total: of all pages. */
int fleet_workers(struct tx *tx, const struct fleet_page *page, json_t **ret, int64_t *ret_total, int64_t *ret_next_ms,
    char **ret_next_id) MUST_USE;
/* ERR_NOT_FOUND: no such worker of this team, or person, is connected. */
int fleet_worker(
    struct tx *tx, int64_t team_id, const struct fleet_person *of, const char *worker_id, json_t **ret) MUST_USE;
/* {totalConnected, inUse} of the workers of the team's pools. */
int fleet_summary(struct tx *tx, int64_t team_id, json_t **ret) MUST_USE;

/* The rows of the team's pools by name and repository. A stale one has had no worker and no request for 30 days. */
int fleet_pools(struct tx *tx, int64_t team_id, bool with_stale, int64_t now_ms, json_t **ret) MUST_USE;

struct pool_row {
	int64_t team_id;
	const char *name;
	const char *repo_name; /* owner/name as given; "": any */
	const char *repo_url; /* NULL: not given */
	const char *account; /* who registers it, for the bound on what one may fill */
	int64_t ready_timeout_s; /* -1: not given, an existing row keeps its own */
};
/* Makes the row, or changes the one that is there, also one that was removed. ERR_INVALID with `why`: the address is
 * not the repository's; ERR_FULL with `why`. */
int fleet_pool_register(struct tx *tx, const struct pool_row *p, int64_t now_ms, struct why *why) MUST_USE;
/* Hides it until somebody registers it again. *ret: there was one. */
int fleet_pool_remove(
    struct tx *tx, int64_t team_id, const char *name, const char *repo_name, int64_t now_ms, bool *ret) MUST_USE;

/* What stands for a repository in the fleet API: repoOwner, repoName, and repoUrl unless `url` is NULL or "". */
void fleet_put_repo(json_t *o, const char *name, const char *url);
/* [{key, value}] of a stored JSON array of "key=value", added to `to`. */
void fleet_add_pairs(json_t *to, const char *stored);
