/* access/accounts.h: accounts at other services (forges, chats, trackers) that belong to people here. What is asked
 * there runs in that person's name. Thread: any, inside the caller's transaction. */
#pragma once
#include "store/store.h"

struct account {
	const char *surface, *place, *account, *login;
};
int account_link(struct tx *tx, const struct account *a, int64_t team_id, int64_t user_id, int64_t now_ms) MUST_USE;
/* *ret_n: how many there were. */
int account_unlink(struct tx *tx, const char *surface, const char *place, const char *account, int64_t *ret_n) MUST_USE;
/* ERR_NOT_FOUND: nobody's. */
int account_find(
    struct tx *tx, const char *surface, const char *place, const char *account, int64_t *ret_user_id) MUST_USE;
/* A secret (malloc'ed, for str_wipe) that connects the account, once, within ten minutes. */
#define ACCOUNT_LINK_MS ((int64_t)10 * 60 * 1000)
int account_link_offer(struct tx *tx, const struct account *a, int64_t now_ms, char **ret_secret) MUST_USE;
/* Takes the offer for that person. ERR_NOT_FOUND: it is used or over. *ret_surface, *ret_login: malloc'ed. */
int account_link_take(struct tx *tx, const char *secret, int64_t team_id, int64_t user_id, int64_t now_ms,
    char **ret_surface, char **ret_login) MUST_USE;
