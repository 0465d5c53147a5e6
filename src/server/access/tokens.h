/* access/tokens.h: short-lived credentials that the control plane signs itself: JWTs with HMAC-SHA256 (HS256), for
 * clients an opaque word. What a token says is only believed as far as the store still agrees (access.h): the key that
 * it was made with is not revoked, its user is there, its claim lives.
 * Thread: any. */
#pragma once
#include "store/store.h"

/* A key of this installation: 256 random bits, the same for all its processes. */
#define INSTALLATION_KEY_LEN 32
/* Made at its first use, whoever comes first. Not inside a transaction. ERR_INTERNAL: what is stored is none (logged).
 */
int installation_key(struct store *st, const char *name, unsigned char ret[INSTALLATION_KEY_LEN]) MUST_USE;

#define TOKEN_KEY "token" /* the installation's key that tokens are signed with */
#define TOKEN_MAX 1000 /* bytes of a token's text; the worker link takes 1024 with the word before it */
#define TOKEN_HOUR_MS ((int64_t)60 * 60 * 1000)
#define TOKEN_WEEK_MS (7 * 24 * TOKEN_HOUR_MS)

enum token_kind {
	TOKEN_WORKER, /* stands for the API key that it was exchanged for, when a worker connects */
	TOKEN_USER, /* acts as a user of the team, and cannot make further tokens */
	TOKEN_SESSION, /* connects one worker id for one claim */
};

struct token {
	enum token_kind kind;
	int64_t team_id, expires_at_ms;
	char *key_id; /* the API key that it was made with */
	int64_t user_id; /* TOKEN_USER: as whom it acts */
	char *key_type; /* TOKEN_WORKER: "user" or "service_account", for its reader; else NULL */
	char *agent_id, *worker_id, *claim_id; /* TOKEN_SESSION; else NULL */
};
void token_free(struct token **t); /* NULL is fine */
/* Whether the text could be a token and no API key. */
bool token_has_form(const char *text);
/* malloc'ed, at most TOKEN_MAX bytes. */
char *token_make(const unsigned char key[INSTALLATION_KEY_LEN], const struct token *t, int64_t now_ms);
/* A token of ours, whether its time is over or not. ERR_UNAUTHORIZED: it is none. */
int token_read(const unsigned char key[INSTALLATION_KEY_LEN], const char *text, struct token **ret) MUST_USE;
