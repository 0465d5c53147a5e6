-- Events of other services, each stored once before it is answered. place: the forge's name, the workspace, the organisation.
-- thread: the conversation; events of one are worked off in order. body: the bytes as they came; NULL after a week.
-- state: new, done, ignored, rejected, failed (reason says why).
CREATE TABLE inbox(
    id TEXT PRIMARY KEY,
    surface TEXT NOT NULL,
    place TEXT NOT NULL,
    delivery TEXT NOT NULL,
    event TEXT NOT NULL,
    thread TEXT NOT NULL,
    body TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    agent_id TEXT,
    received_at BIGINT NOT NULL,
    ended_at BIGINT
) /* clustered */;
CREATE UNIQUE INDEX inbox_by_delivery ON inbox(surface, place, delivery);
CREATE INDEX inbox_by_age ON inbox(received_at);
-- Agents of a conversation, the newest one hears what is said there. at: where answers go, in the surface's terms; said: what was answered
-- there (the comment that is edited), by run.
CREATE TABLE conversations(
    agent_id TEXT PRIMARY KEY,
    surface TEXT NOT NULL,
    place TEXT NOT NULL,
    thread TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    at TEXT NOT NULL,
    said TEXT,
    created_at BIGINT NOT NULL
) /* clustered */;
CREATE INDEX conversations_by_thread ON conversations(surface, place, thread, created_at);
-- Links that connect an account of a surface to a person here, once. id: SHA-256 of what the link has.
CREATE TABLE account_links(
    id TEXT PRIMARY KEY,
    surface TEXT NOT NULL,
    place TEXT NOT NULL,
    account TEXT NOT NULL,
    login TEXT NOT NULL,
    expires_at BIGINT NOT NULL
) /* clustered */;
