/* fleet/pools.h: which repositories the pools serve, as workers have told. Inside the caller's transaction. */
#pragma once
#include "store/store.h"

/* Which row of a pool serves a repository (routing at creation). `several`: the request names more than one, which only
 * an any-repo row of a named pool takes. *ret_match_repo (malloc'ed): the repo to match with, "" for an any-repo row.
 * ERR_NOT_FOUND: no such pool, or it was deregistered; ERR_CONFLICT: it serves only other repositories (`why` lists
 * some). The pool `default` always exists. */
int pool_route(struct tx *tx, int64_t team_id, const char *pool, const char *repo, const char *repo_host, bool several,
    char **ret_match_repo, struct why *why) MUST_USE;
/* How long the row's follow-ups are held for a worker that is away, in seconds; 0: not at all. */
int pool_window(struct tx *tx, int64_t team_id, const char *pool, const char *repo, int64_t *ret_s) MUST_USE;
