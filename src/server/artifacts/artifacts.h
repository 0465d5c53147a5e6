/* artifacts/artifacts.h: files that agents leave under artifacts/ of their workspace, from the worker that brings them
 * to the client that fetches them.
 *
 * A worker gets a grant with each opening of a session: an address and a token that is good for one agent, as long as
 * its claim lives and at most a week. A client gets a link that is good for one file and a quarter of an hour. Both are
 * signed with a key of the installation and need no other credential.
 *
 * Threads: any; functions with a store work block on it, those about content on the storage too. One thread of this
 * room makes the storage forget what nobody shall see any more. */
#pragma once
#include "base/json.h"
#include "server/artifacts/storage.h"
#include "server/audit/audit.h"
#include "store/store.h"

struct artifacts;
struct seal;

#define ARTIFACT_LINK_MS ((int64_t)15 * 60 * 1000)

struct artifacts_config {
	struct store *store;
	const struct seal *seal; /* base/seal.h */
	const char *data_dir; /* the folder `artifacts` in it has the content */
	const json_t *s3; /* the table [s3] of the settings: the content is there instead; NULL: not */
	int64_t keep_ms; /* since it was brought; 0: as long as its agent */
	int64_t max_files; /* of an agent; the oldest go first */
	int64_t max_file_bytes;
	const char *upload_url; /* NULL: workers use the address that they are connected to */
	const char *download_url; /* of links; NULL: artifacts_set_base says it */
};

int artifacts_new(const struct artifacts_config *cfg, struct artifacts **ret, struct why *why) MUST_USE;
/* Nobody may use it any more. NULL is fine. */
void artifacts_free(struct artifacts **a);
/* The address of this server, where no other is set. Once, before the first link. */
void artifacts_set_base(struct artifacts *a, const char *url);
struct storage *artifacts_storage(struct artifacts *a);
/* The server stops: whoever waits for the storage is let go. */
void artifacts_stop(struct artifacts *a);

/* What the worker of that claim is told: {url?, token, maxFileBytes}. New reference. `ctx` is a struct artifacts. */
json_t *artifacts_grant(void *ctx, const char *agent_id, const char *claim_id);
/* Whose artifacts the bearer may bring (malloc'ed); ERR_UNAUTHORIZED: nobody's, or the claim has ended. */
int artifacts_check_grant(struct artifacts *a, const char *authorization, char **ret_agent_id) MUST_USE;

struct artifact {
	char *agent_id, *path, *generation, *sha256;
	bool ready; /* else it is still arriving */
	int64_t size_bytes, updated_at;
};
void artifact_fini(struct artifact *f);

/* Bringing one. */
/* The worker has a file. *ret: what becomes of it, new or known; *ret_received: where it has to go on. ERR_INVALID
 * (path, hash, size) and ERR_TOO_LARGE with `why`; ERR_NOT_FOUND: there is no such agent any more. */
int artifact_announce(struct artifacts *a, const char *agent_id, const char *path, int64_t size, const char *sha256,
    struct artifact *ret, int64_t *ret_received, struct why *why) MUST_USE;
/* By its generation, of that agent (NULL: of any). ERR_NOT_FOUND. */
int artifact_find(struct artifacts *a, const char *agent_id, const char *generation, struct artifact *ret) MUST_USE;
/* All its bytes are there: it is checked and takes the place of an older one of its path. ERR_INVALID: the content is
 * not what was announced, and is thrown away. ERR_NOT_FOUND: it, or its agent, was deleted meanwhile. */
int artifact_complete(struct artifacts *a, const struct artifact *f, struct storage_piece *p) MUST_USE;

/* Fetching. */
/* The finished ones, newest first: fn is called for each until it returns other than OK. */
int artifacts_each(
    struct tx *tx, const char *agent_id, int (*fn)(void *ctx, const struct artifact *f), void *ctx) MUST_USE;
/* The finished one of that path. ERR_NOT_FOUND. */
int artifact_by_path(struct tx *tx, const char *agent_id, const char *path, struct artifact *ret) MUST_USE;
/* An absolute URL, of this server or of the storage, good until *ret_expires_at; malloc'ed. What is fetched there has
 * that Content-Disposition. */
char *artifact_link(
    struct artifacts *a, const char *generation, const char *disposition, int64_t now_ms, int64_t *ret_expires_at);
/* "https://host:port" of links that do not lead to this server's own address; malloc'ed, NULL: they do. */
char *artifacts_origin(struct artifacts *a);
/* Whether a link with this says the truth and is not over. `expires` and `signature` are as in the URL. */
bool artifact_link_is_good(
    struct artifacts *a, const char *generation, const char *expires, const char *signature, int64_t now_ms);

/* public.c: addresses that need no key, made for the pull requests that show them, if the team's policy lets them be
 * (adr/0039). They are good until the file changes, or they are revoked, or the agent is deleted, or the policy forbids
 * them. */
struct artifact_pull {
	const char *agent_id, *owner, *agent_url; /* owner: as agents.owner */
	int64_t team_id;
};
/* What its pull request says of the agent's files: Markdown, with names in the place of public addresses. malloc'ed.
 * `ctx` is a struct artifacts. */
int artifacts_in_pull(void *ctx, struct tx *tx, const struct artifact_pull *of, char **ret) MUST_USE;
/* The text with the addresses in it, for the forge alone: it is not to be stored. malloc'ed. */
int artifacts_fill(void *ctx, const char *agent_id, const char *text, char **ret) MUST_USE;
/* What an address leads to. *ret_id (malloc'ed): which one it is. ERR_NOT_FOUND: there is none any more. */
int artifact_public_find(struct artifacts *a, const char *token, char **ret_id, struct artifact *ret) MUST_USE;
int artifact_public_each(struct tx *tx, const char *agent_id,
    void (*each)(void *ctx, const char *path, int64_t created_at), void *ctx) MUST_USE;
/* Of the agent, or of one of its paths. What was revoked is not made again, whatever becomes of the file. */
int artifact_public_revoke(
    struct tx *tx, const struct audit_by *by, const char *agent_id, const char *path, int64_t *ret_n) MUST_USE;

/* links.c: the texts that are signed, without a store: for artifacts.c and tests. */
#define ARTIFACT_KEY_LEN 32
char *artifact_link_sign(const unsigned char key[ARTIFACT_KEY_LEN], const char *generation, int64_t expires_at_ms);
bool artifact_link_verify(const unsigned char key[ARTIFACT_KEY_LEN], const char *generation, const char *expires,
    const char *signature, int64_t now_ms);
char *artifact_token_make(
    const unsigned char key[ARTIFACT_KEY_LEN], const char *agent_id, const char *claim_id, int64_t expires_at_ms);
/* *ret_agent_id and *ret_claim_id are malloc'ed. ERR_UNAUTHORIZED: not ours, or over. */
int artifact_token_read(const unsigned char key[ARTIFACT_KEY_LEN], const char *token, int64_t now_ms,
    char **ret_agent_id, char **ret_claim_id) MUST_USE;
