-- What a request gave its agent (run_id '') or one run: kind env (variables, sealed), mcp (servers, sealed: they hold
-- secrets), subagents (plain). Never returned by the API; goes with the run or the agent.
CREATE TABLE agent_inputs(
    agent_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY(agent_id, run_id, kind)
) /* clustered */;

-- Files that an agent left under artifacts/. generation: the name under which the content is stored; a file that changed
-- is uploaded under a new one. state: UPLOADING (how far, the storage knows) or READY. sha256: of the whole, as the worker
-- announced it and the storage has checked.
CREATE TABLE artifacts(
    generation TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL,
    path TEXT NOT NULL,
    state TEXT NOT NULL,
    size_bytes BIGINT NOT NULL,
    sha256 TEXT NOT NULL,
    updated_at BIGINT NOT NULL
) /* clustered */;
CREATE INDEX artifacts_of_agent ON artifacts(agent_id, path);
CREATE INDEX artifacts_unfinished ON artifacts(updated_at) WHERE state = 'UPLOADING';
-- Content that nobody shall see any more. A row comes with the end of its row in artifacts and goes when the storage has
-- forgotten it.
CREATE TABLE artifact_removals(
    generation TEXT PRIMARY KEY
) /* clustered */;
-- Files of a run that could not be uploaded: [{path, reason}].
ALTER TABLE run_sessions ADD COLUMN not_uploaded TEXT;

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

-- Variables of requests may go to workers that take them.
ALTER TABLE teams ADD COLUMN secret_sync INTEGER NOT NULL DEFAULT 1;
