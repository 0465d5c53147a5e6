-- What a request gave its agent (run_id '') or one run: kind env (variables, sealed), mcp (servers, sealed: they hold
-- secrets), subagents (plain). Never returned by the API; goes with the run or the agent.
CREATE TABLE agent_inputs(
    agent_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY(agent_id, run_id, kind)
) /* clustered */;

-- Files that an agent left under artifacts/. received: bytes that have come; sha256: what the worker says the whole is.
-- state: UPLOADING, READY, or FAILED with a reason. generation: a file that changed is uploaded under a new one.
CREATE TABLE artifacts(
    agent_id TEXT NOT NULL,
    path TEXT NOT NULL,
    generation TEXT NOT NULL,
    state TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    received BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    reason TEXT,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY(agent_id, path, generation)
) /* clustered */;
CREATE INDEX artifacts_by_age ON artifacts(agent_id, updated_at);

-- Where changes of an agent's status are told (v0 launches). secret: sealed, NULL if none was given. agent_url: the link
-- to the agent as its launch was answered. Deliveries are rows of the outbox, of the kind 'webhook'.
CREATE TABLE webhooks(
    agent_id TEXT PRIMARY KEY,
    url TEXT NOT NULL,
    secret TEXT,
    agent_url TEXT NOT NULL
) /* clustered */;

-- Rows of the outbox that keep the order of their subject: 1 and up; 0 keeps none.
ALTER TABLE outbox ADD COLUMN seq BIGINT NOT NULL DEFAULT 0;
CREATE INDEX outbox_by_subject ON outbox(kind, subject, seq);

-- Follow-ups that came while a run was active (v0): they begin one after the other.
CREATE TABLE queued_followups(
    agent_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    prompt TEXT NOT NULL,
    images TEXT,
    created_at BIGINT NOT NULL,
    PRIMARY KEY(agent_id, seq)
) /* clustered */;
