-- MCP servers that users and teams keep, and what the control plane knows about remote ones. What is sealed (base/seal.h)
-- says so; what it belongs to is sealed with it.

-- user_id 0: the team's. definition: sealed JSON as in mcpServers of a request.
CREATE TABLE mcp_servers(
    id TEXT PRIMARY KEY,
    team_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    definition TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    UNIQUE(team_id, user_id, name)
);

-- As whom an authorization server knows this installation. client: sealed JSON.
CREATE TABLE mcp_clients(
    team_id BIGINT NOT NULL,
    issuer TEXT NOT NULL,
    redirect_uri TEXT NOT NULL,
    client TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY(team_id, issuer, redirect_uri)
) /* clustered */;

-- A person is being asked by an authorization server. state: waiting (for the browser to come back), confirm (for the person
-- to type the code that the browser shows), done, failed. secret: sealed JSON, of what is needed until then.
CREATE TABLE mcp_logins(
    id TEXT PRIMARY KEY,
    state_hash TEXT NOT NULL UNIQUE,
    team_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT,
    state TEXT NOT NULL,
    message TEXT,
    code_hash TEXT,
    tries BIGINT NOT NULL DEFAULT 0,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX mcp_logins_expire ON mcp_logins(expires_at);
CREATE INDEX mcp_logins_by_user ON mcp_logins(user_id, url, created_at);

-- What a user allowed us at one server (url: canonical). secret: sealed JSON of tokens, client and endpoints. version counts
-- the tokens; refreshing_until: somebody fetches new ones. wanted_scope: what the server said is lacking.
CREATE TABLE mcp_grants(
    team_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    url TEXT NOT NULL,
    issuer TEXT NOT NULL,
    secret TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    version BIGINT NOT NULL,
    refreshing_until BIGINT NOT NULL DEFAULT 0,
    wanted_scope TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY(team_id, user_id, url)
) /* clustered */;

-- Which MCP servers and tools runs of the team may use: a list of rules (mcp/allow.h) as JSON; NULL: all.
ALTER TABLE teams ADD COLUMN mcp_allow TEXT;
