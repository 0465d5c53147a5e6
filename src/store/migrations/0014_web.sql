-- Sessions of browsers. id: SHA-256 of what the cookie has. key_id: the API key for which the session stands; one that ends
-- (revoked) ends its sessions.
CREATE TABLE browser_sessions(
    id TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL
) /* clustered */;
CREATE INDEX browser_sessions_by_use ON browser_sessions(used_at);
-- Links that sign a person in, once. id: SHA-256 of what the link has; key_id: a key that was made for it and that nobody knows.
CREATE TABLE login_links(
    id TEXT PRIMARY KEY,
    key_id TEXT NOT NULL,
    expires_at BIGINT NOT NULL
) /* clustered */;
-- member or admin: who sees and manages the whole team in the dashboard.
ALTER TABLE users ADD COLUMN role TEXT NOT NULL DEFAULT 'member';
