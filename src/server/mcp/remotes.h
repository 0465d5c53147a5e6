/* mcp/remotes.h: MCP servers that the control plane asks itself: over Streamable HTTP or the older HTTP+SSE, with
 * OAuth. Thread: any; what blocks says so. Secrets (headers, tokens) leave this room only towards the server that they
 * are for. */
#pragma once
#include "server/audit/audit.h"
#include "base/json.h"
#include "base/seal.h"
#include "server/mcp/kept.h"
#include "store/store.h"
#include <stdatomic.h>

struct remotes;

struct remotes_config {
	struct store *store;
	const struct seal *seal;
	const char *internal_hosts; /* web.h; NULL: none */
	bool client_documents; /* authorization servers can reach our /.well-known/mcp-client.json */
};
int remotes_new(const struct remotes_config *cfg, struct remotes **ret, struct why *why) MUST_USE;
/* Ends every connection. Nobody may be in a call of this room. NULL is fine. */
void remotes_free(struct remotes **r);
/* Where browsers reach this server, "https://bullpen.example"; once, before the first login. */
void remotes_set_base(struct remotes *r, const char *url);
const struct web_rules *remotes_rules(const struct remotes *r);
/* malloc'ed: "…/agents/mcp/oauth/callback"; and the document that says who we are, NULL if we have none. */
char *remotes_redirect_uri(const struct remotes *r);
json_t *remotes_client_document(const struct remotes *r);

/* login.c: a person allows us to use a server. */
struct login_begun {
	char *id, *authorize_url;
	int64_t expires_at_ms;
};
void login_begun_fini(struct login_begun *l);
/* Asks the server and its authorization server, so it blocks. `definition`: {url, auth?, …}. ERR_EMPTY: the server
 * wants no authorization. ERR_INVALID, ERR_DENIED, ERR_NET, ERR_TIMEOUT, ERR_FULL with `why`. */
int login_begin(struct remotes *r, const struct kept_owner *o, const json_t *definition, struct login_begun *ret,
    struct why *why) MUST_USE;
/* The browser is back; parameters may be NULL and are hostile. OK: *ret_code (malloc'ed) is what the person types in
 * the terminal that began it: whoever was only sent a link cannot finish somebody else's login. ERR_NOT_FOUND: nobody
 * waits for this. */
struct login_answer {
	const char *state, *code, *issuer, *error;
};
int login_callback(struct remotes *r, const struct login_answer *a, char **ret_code, struct why *why) MUST_USE;
/* {"id", "state": waiting|confirm|done|failed|expired, "message"?}; new reference. ERR_NOT_FOUND. */
int login_state(struct remotes *r, const struct kept_owner *o, const char *id, json_t **ret) MUST_USE;
/* ERR_NOT_FOUND; ERR_CONFLICT: it does not wait for a code; ERR_DENIED: another code, with `why`. */
int login_confirm(struct remotes *r, const struct kept_owner *o, const char *id, const char *code,
    const struct audit_by *by, struct why *why) MUST_USE;
/* Forgets the grant and tells the authorization server; blocks. ERR_NOT_FOUND: there is none. */
int login_end(struct remotes *r, const struct kept_owner *o, const char *url, const struct audit_by *by) MUST_USE;

/* tokens.c: a token that is valid for a while, fetched anew if need be; blocks. `rejected`: the version that the server
 * did not take, 0: none. ERR_EMPTY: there is no grant; ERR_UNAUTHORIZED: it was withdrawn; others with `why`. *ret:
 * wipe it. */
int grant_token(struct remotes *r, const struct kept_owner *o, const char *url, int64_t rejected, char **ret,
    int64_t *ret_version, struct why *why) MUST_USE;
/* The server wants more: the next login asks for it. */
void grant_want(struct remotes *r, const struct kept_owner *o, const char *url, const char *scope);

/* remote.c: the servers of one agent, as its runs use them. Connections are kept for as long as they are used, and ten
 * minutes; they are not shared between agents or people. */
struct remote_who {
	struct kept_owner owner; /* user_id 0: a service account: nobody's grants */
	const char *agent_id;
};
/* What holds for a run: `inline_servers` (of the request; may be NULL), then the user's, then the team's; of servers of
 * one name the first. Two new arrays of definitions, with secrets: those that are asked from here, and those that a
 * worker starts. Blocks on the store. */
int remote_definitions(struct remotes *r, const struct kept_owner *o, const json_t *inline_servers, json_t **ret_remote,
    json_t **ret_stdio) MUST_USE;
/* The servers of `definitions` (remote ones) as mcp/tools.h lists them, in order; a new array. Those that are not
 * connected are connected, side by side, and what is not there after wait_ms has the state "starting": ask again later.
 * What has changed at a server is in the next list. Blocks. */
json_t *remote_list(struct remotes *r, const struct remote_who *who, const json_t *definitions, int64_t wait_ms,
    const atomic_bool *stop);
struct remote_call {
	const char *server, *tool;
	const json_t *arguments;
	int64_t deadline_mono_ms;
	const atomic_bool *stop; /* NULL: never */
	size_t image_max; /* as for mcp_outcome_from */
	/* As of struct mcp_call. */
	void (*progress)(void *ctx, double done, double total, const char *message);
	void *ctx;
};
struct mcp_outcome;
/* Performs a call of one of these servers; blocks. OK: answered, *ret is filled (mcp/result.h; a JSON-RPC error is one
 * that failed). Else `why` is a sentence for the model, and *ret_code (a literal) what it is called in the log:
 * mcp_auth_required, mcp_scope_required, unknown_tool, mcp_unavailable, mcp_error, mcp_timeout, mcp_interrupted. */
int remote_perform(struct remotes *r, const struct remote_who *who, const json_t *definitions,
    const struct remote_call *call, struct mcp_outcome *ret, const char **ret_code, struct why *why) MUST_USE;
