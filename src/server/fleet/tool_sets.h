/* fleet/tool_sets.h: descriptions of tools, each distinct text once in memory and once in the store.
 * Thread: functions with a fleet: the hub (hub_priv.h); those with a store or transaction: jobs. */
#pragma once
#include "link/link.h"
#include "server/fleet/fleet.h"

/* NULL if it is not known yet. A new reference, as all here. */
struct tool_set *tool_sets_find(struct fleet *f, const char *hash);
/* Puts the known set in the place of an equal one, or makes this one known. */
void tool_sets_share(struct fleet *f, struct tool_set **s);
/* From time to time a job forgets the stored sets that nobody uses. */
void tool_sets_tick(struct fleet *f, int64_t now_ms);
void tool_sets_free(struct fleet *f);
/* In a job: the set that this hello tells, checked, or names by its hash, from the store. ERR_INVALID with `why`,
 * ERR_NOT_FOUND, store errors. */
int tool_set_read(
    struct store *st, const Bullpen__Worker__V1__Hello *h, struct tool_set **ret, struct why *why) MUST_USE;
/* ERR_FULL: too many are kept that no run names, in all or of this account. */
int tool_set_store(struct tx *tx, const struct tool_set *s, const char *account, int64_t now_ms) MUST_USE;

/* Deletes some of the sets that neither a run nor a connected worker names and that were last used before. */
int tool_sets_forget(struct store *st, int64_t before_ms) MUST_USE;
/* The worker is gone: what it used counts as used until now. Before its row is deleted. */
int tool_set_release(struct tx *tx, int64_t team_id, const char *worker_id, int64_t now_ms) MUST_USE;
