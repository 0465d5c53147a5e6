/* agent/worker/auth.h: what a worker shows the control plane: the token it was given, a token file that somebody
 * rotates, or a short-lived token that its API key is exchanged for (POST /v0/worker-tokens; the key itself where the
 * control plane has no such route). And what to do when it is refused.
 * Thread: the loop's; an exchange has a thread of its own. */
#pragma once
#include "agent/worker/options.h"

struct auth;

enum auth_answer {
	AUTH_READY, /* here is the token */
	AUTH_PENDING, /* the exchange is under way: `wake` is called */
	AUTH_LATER, /* not now: back off */
	AUTH_SOON, /* the token file is not there yet: ask again in AUTH_SOON_MS; no attempt has failed */
	AUTH_OVER /* trying again is useless: exit 3 with `why` */
};
#define AUTH_SOON_MS 200

/* `wake` may come from any thread. Options are borrowed. */
struct auth *auth_new(const struct worker_options *o, void (*wake)(void *ctx), void *ctx);
/* Not while auth_busy. NULL is fine. */
void auth_free(struct auth **a);
/* What is shown to connect: asked before each attempt, and again after `wake`. *ret_token is borrowed until the next
 * call. AUTH_LATER and AUTH_OVER with `why`; AUTH_LATER with how long the control plane asked to wait, 0: it did not.
 */
enum auth_answer auth_take(struct auth *a, const char **ret_token, int64_t *ret_wait_ms, struct why *why) MUST_USE;
/* An exchange is under way. */
bool auth_busy(const struct auth *a);
/* The token was accepted. */
void auth_accepted(struct auth *a);
/* It was refused with this code and sentence ("unauthorized" if there is none). AUTH_READY: dial again at once, there
 * is something else to show; AUTH_LATER: back off; AUTH_OVER. */
enum auth_answer auth_refused(struct auth *a, const char *code, const char *message) MUST_USE;
/* Codes that are about the credential. */
bool auth_is_about(const char *code);
/* Whether this kind of key can start this kind of worker; `why` says what to do otherwise. */
int auth_check_key_type(const char *key_type, bool pool, struct why *why) MUST_USE;
/* The file's token; malloc'ed. ERR_EMPTY: no file, or nothing in it, yet. ERR_INVALID with `why`: it cannot be one. */
int auth_read_file(const char *path, char **ret, struct why *why) MUST_USE;
/* POST /v0/worker-tokens on the calling thread. OK, and *ret_token, *ret_type malloc'ed; ERR_NOT_FOUND: there is no
 * such route; ERR_UNAUTHORIZED: the key is refused; else it may work later, after *ret_wait_ms if that is not 0. */
int auth_exchange(const char *endpoint, const char *key, char **ret_token, char **ret_type, int64_t *ret_lifetime_ms,
    int64_t *ret_wait_ms, struct why *why) MUST_USE;
