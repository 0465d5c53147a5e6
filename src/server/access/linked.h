/* access/linked.h: accounts at other services (forges, chats, trackers) that belong to people here. What is asked
 * there runs in that person's name. Thread: any, inside the caller's transaction. */
#pragma once
#include "server/audit/audit.h"
#include "store/store.h"

struct linked {
	const char *surface, *place, *account, *login;
};
/* For a person of by->team_id, whoever had it before. In the audit log. */
int linked_add(
    struct tx *tx, const struct audit_by *by, const struct linked *a, int64_t user_id, int64_t now_ms) MUST_USE;
/* *ret_n: how many there were; each is in the audit log of its team. */
int linked_remove(struct tx *tx, const struct audit_by *by, const char *surface, const char *place, const char *account,
    int64_t *ret_n) MUST_USE;
/* ERR_NOT_FOUND: nobody's. */
int linked_find(
    struct tx *tx, const char *surface, const char *place, const char *account, int64_t *ret_user_id) MUST_USE;
/* Who has that e-mail address here. ERR_NOT_FOUND. */
int linked_find_email(struct tx *tx, const char *email, int64_t *ret_user_id) MUST_USE;
/* A secret (malloc'ed, for str_wipe) that connects the account, once, within ten minutes. */
#define LINK_OFFER_MS ((int64_t)10 * 60 * 1000)
int link_offer(struct tx *tx, const struct linked *a, int64_t now_ms, char **ret_secret) MUST_USE;
/* What the offer is for. ERR_NOT_FOUND: it is used or over. *ret_surface, *ret_login: malloc'ed. */
int link_look(struct tx *tx, const char *secret, int64_t now_ms, char **ret_surface, char **ret_login) MUST_USE;
/* Takes the offer for that person. ERR_NOT_FOUND: it is used or over. *ret_surface, *ret_login: malloc'ed. */
int link_take(struct tx *tx, const struct audit_by *by, const char *secret, int64_t user_id, int64_t now_ms,
    char **ret_surface, char **ret_login) MUST_USE;
