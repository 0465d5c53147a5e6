/* fleet/pools.h: which repositories the pools serve, as workers have told. Inside the caller's transaction. */
#pragma once
#include "store/store.h"

/* Which row of a pool serves a repository (routing at creation). *ret_match_repo (malloc'ed): the repo to match with,
 * "" for an any-repo row. ERR_NOT_FOUND: no such pool; ERR_CONFLICT: it serves only other repositories (`why` lists
 * some). The pool `default` always exists. */
int pool_route(struct tx *tx, int64_t team_id, const char *pool, const char *repo, const char *repo_host,
    char **ret_match_repo, struct why *why) MUST_USE;
