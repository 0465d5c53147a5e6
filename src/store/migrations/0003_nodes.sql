-- Control-plane nodes. epoch: counts the starts of a node; what an earlier epoch of it left about live connections is
-- void. lease_until: until then no other node may take over what this one owns.
CREATE TABLE nodes(
    id TEXT PRIMARY KEY,
    epoch BIGINT NOT NULL,
    started_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL
);

-- The node that holds the worker's connection. '' is a row from before there were nodes: the first node to start takes it.
ALTER TABLE workers ADD COLUMN node_id TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN node_epoch BIGINT NOT NULL DEFAULT 0;

-- A claim has a name of its own: an agent that gets the same worker twice has two claims, and a message about the first
-- must not touch the second. node_id: where its worker is, or was last, connected.
ALTER TABLE claims ADD COLUMN id TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN node_id TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN node_epoch BIGINT NOT NULL DEFAULT 0;
UPDATE claims SET id = 'claim-' || agent_id;

-- The node whose run thread has the run (owner_epoch is that thread's fencing number).
ALTER TABLE runs ADD COLUMN node_id TEXT NOT NULL DEFAULT '';
ALTER TABLE runs ADD COLUMN node_epoch BIGINT NOT NULL DEFAULT 0;

-- What a key may do: names separated by blanks; NULL is what its type may do by default.
ALTER TABLE api_keys ADD COLUMN scopes TEXT;

-- For the node that looks for keys that were revoked since it looked last.
CREATE INDEX api_keys_revoked ON api_keys(revoked_at) WHERE revoked_at IS NOT NULL;

-- Things to be done outside, each once: a row is written in the transaction that is its cause, one sender performs it.
-- state: waiting, done, failed. due_at: not before; while a sender is at it, the end of its lease (lease_until, node_id).
CREATE TABLE outbox(
    id TEXT PRIMARY KEY,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    due_at BIGINT NOT NULL,
    lease_until BIGINT NOT NULL,
    node_id TEXT NOT NULL,
    error TEXT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX outbox_due ON outbox(kind, due_at, id) WHERE state = 'waiting';
CREATE INDEX outbox_ended ON outbox(ended_at) WHERE ended_at IS NOT NULL;

-- Access: one user an e-mail (without e-mail: a name), one service account a name, whoever writes at the same time.
CREATE UNIQUE INDEX users_by_email ON users(LOWER(email)) WHERE email IS NOT NULL;
CREATE UNIQUE INDEX users_by_name ON users(name) WHERE email IS NULL;
CREATE UNIQUE INDEX service_accounts_by_name ON service_accounts(team_id, name);
