-- Who changed what: a chain for each team. hash: SHA-256 over prev_hash and all that the record says (server/audit). seq counts
-- from 1 without gaps. actor: "user:7", "sa:…" or "admin command".
CREATE TABLE audit_log(
    team_id BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    id TEXT NOT NULL,
    at BIGINT NOT NULL,
    type TEXT NOT NULL,
    actor TEXT NOT NULL,
    actor_name TEXT,
    ip TEXT,
    data TEXT NOT NULL,
    prev_hash TEXT NOT NULL,
    hash TEXT NOT NULL,
    PRIMARY KEY(team_id, seq)
) /* clustered */;
-- Where each chain begins (older records were forgotten by their age; first_prev is the hash of the last of them) and ends.
CREATE TABLE audit_chains(
    team_id BIGINT PRIMARY KEY,
    first_seq BIGINT NOT NULL,
    first_prev TEXT NOT NULL,
    last_seq BIGINT NOT NULL,
    last_hash TEXT NOT NULL
);
-- Who has read the log and when that was written into it: id is a browser's session or a key.
CREATE TABLE audit_readers(
    id TEXT PRIMARY KEY,
    at BIGINT NOT NULL
) /* clustered */;
-- A key that is over; when one was used last (to the minute); one that nobody knows: it only carries a browser's session.
ALTER TABLE api_keys ADD COLUMN expires_at BIGINT;
ALTER TABLE api_keys ADD COLUMN used_at BIGINT;
ALTER TABLE api_keys ADD COLUMN for_browser INTEGER NOT NULL DEFAULT 0;
ALTER TABLE service_accounts ADD COLUMN archived_at BIGINT;
