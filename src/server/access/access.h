/* access/access.h: who is asking. API keys, their owners, and the check of an Authorization header (of tokens:
 * tokens.h). Thread: any; the state is in the store. Keys are stored as SHA-256 only (random 256 bit keys need no slow
 * hash). */
#pragma once
#include "base/json.h"
#include "server/audit/audit.h"
#include "store/store.h"

/* What a key may do is a set of scopes. A route names the one it needs (api/route.h); docs/operating.md says who has
 * which. */
#define SCOPE_AGENTS_READ "agents:read"
#define SCOPE_AGENTS_WRITE "agents:write"
/* The agents of others in the team, by their id: with agents:read to read them, with agents:write to cancel their runs.
 */
#define SCOPE_AGENTS_TEAM "agents:team"
#define SCOPE_MODELS_READ "models:read"
#define SCOPE_METRICS_READ "metrics:read"
/* Workers of a pool; and machines of one's own, which only a user has. */
#define SCOPE_WORKERS_CONNECT "workers:connect"
#define SCOPE_MACHINES_CONNECT "machines:connect"
/* The fleet: workers, pools and the queue of the team, to look at and to act on. */
#define SCOPE_FLEET_READ "fleet:read"
#define SCOPE_FLEET_WRITE "fleet:write"
/* To make tokens that act as a user of the team. */
#define SCOPE_TOKENS_MINT "tokens:mint"
/* MCP servers that are kept: a user's own, a service account's of the team. */
#define SCOPE_MCP_WRITE "mcp:write"
/* What runs on every worker of the team: nobody has it by default. */
#define SCOPE_HOOKS_WRITE "hooks:write"
/* What every agent of the team is told: nobody has it by default. */
#define SCOPE_RULES_WRITE "rules:write"
/* The team's settings: policy, accounts, keys of others, roles; and its audit log. Nobody has them by default. */
#define SCOPE_TEAM_ADMIN "team:admin"
#define SCOPE_AUDIT_READ "audit:read"
/* Where the ends of all runs of the team are told: nobody has it by default. */
#define SCOPE_WEBHOOKS_WRITE "webhooks:write"
bool access_scope_is_known(const char *scope);
/* "agents:read, agents:write, …": every scope there is. malloc'ed. */
char *access_scopes_known(void);

/* What a person is in the team (docs/operating.md). An auditor reads everything and changes nothing; an owner is an
 * admin whose role nobody else changes. */
enum role { ROLE_MEMBER, ROLE_AUDITOR, ROLE_ADMIN, ROLE_OWNER };
/* "member" …; and back: false for another word. */
const char *role_name(enum role r);
bool role_parse(const char *name, enum role *ret);

enum credential { BY_API_KEY, BY_BROWSER, BY_USER_TOKEN, BY_WORKER_TOKEN, BY_SESSION_TOKEN };

struct principal {
	enum credential by;
	int64_t team_id;
	int64_t user_id; /* 0: a service account */
	char *service_account_id; /* "" for a user */
	char *owner; /* "user:7" or "sa:sa_…": owns agents */
	char *key_id; /* the API key, also where it was a token that was made with it */
	char *key_name;
	int64_t key_created_at, key_used_at;
	unsigned scopes; /* for principal_has_scope */
	char *user_name; /* NULL if not set */
	char *user_email; /* NULL if not set */
	enum role role; /* of a user; ROLE_MEMBER for a service account */
	char *only_agent, *only_worker; /* BY_SESSION_TOKEN: of its claim; else NULL */
	char *session_id; /* BY_BROWSER: which session, as the store knows it; else NULL */
};

void principal_free(struct principal **p);
bool principal_is_service_account(const struct principal *p);
/* An admin or owner in a browser. A person's API key is for agents, whatever the person is: it lies about in files of
 * machines. */
bool principal_leads(const struct principal *p);
/* The same, or an auditor. */
bool principal_oversees(const struct principal *p);
/* May change the team's settings: who leads it, or a key with team:admin. */
bool principal_manages(const struct principal *p);
/* `scope` is a known one. */
bool principal_has_scope(const struct principal *p, const char *scope);

/* For the API. Checks "Basic base64(KEY:)" or "Bearer KEY", where KEY may be a token that acts as a user.
 * ERR_UNAUTHORIZED for missing, malformed, unknown, revoked and expired ones alike; ERR_DENIED: a token that only
 * connects workers; ERR_INTERNAL: its row is damaged (logged); store errors as they are. */
int access_authenticate(struct store *st, const char *authorization, struct principal **ret) MUST_USE;

/* Who an API key that is valid now stands for. ERR_UNAUTHORIZED if there is none of that id. */
int access_principal_of_key(struct tx *tx, const char *key_id, struct principal **ret) MUST_USE;

/* A person, with what her keys may do by default: for what she asks elsewhere. ERR_NOT_FOUND. */
int access_principal_of_user(struct tx *tx, int64_t user_id, struct principal **ret) MUST_USE;

/* Whoever owns agents ("user:7", "sa:sa_…"), likewise: for what begins by itself in that name. ERR_NOT_FOUND: gone, or
 * archived. */
int access_principal_of_owner(struct tx *tx, const char *owner, struct principal **ret) MUST_USE;

/* Why a credential was refused, for the worker's link: what its holder may know. */
struct refusal {
	const char *code; /* a literal: unauthorized, token_expired, claim_ended, key_revoked */
	struct why why;
};
/* For the worker's link: API keys and tokens of every kind. ERR_UNAUTHORIZED with `refusal`; others as above. */
int access_authenticate_worker(
    struct store *st, const char *authorization, struct principal **ret, struct refusal *refusal) MUST_USE;
