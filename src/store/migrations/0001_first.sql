-- Times are Unix milliseconds; flags are 0 or 1; ids as in docs/api.md. The SQL that SQLite and PostgreSQL share.

-- Access: who is asking.

CREATE TABLE teams(
    id BIGINT PRIMARY KEY,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE users(
    id BIGINT PRIMARY KEY,
    team_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    email TEXT,
    created_at BIGINT NOT NULL
);

CREATE TABLE service_accounts(
    id TEXT PRIMARY KEY,
    team_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL
);

CREATE TABLE api_keys(
    id TEXT PRIMARY KEY,
    hash TEXT NOT NULL UNIQUE,
    suffix TEXT NOT NULL,
    team_id BIGINT NOT NULL,
    user_id BIGINT,
    service_account_id TEXT,
    name TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
);

-- Runs: agents and what they do.

CREATE TABLE agents(
    id TEXT PRIMARY KEY,
    team_id BIGINT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    env_type TEXT NOT NULL,
    env_name TEXT,
    pool TEXT NOT NULL,
    repos TEXT NOT NULL,
    repo_url TEXT NOT NULL,
    repo TEXT NOT NULL,
    repo_host TEXT NOT NULL,
    match_repo TEXT NOT NULL,
    starting_ref TEXT NOT NULL,
    work_on_current_branch INTEGER NOT NULL,
    skip_reviewer_request INTEGER NOT NULL,
    open_as_app INTEGER NOT NULL,
    metadata TEXT,
    model TEXT NOT NULL,
    mode TEXT NOT NULL,
    branch TEXT NOT NULL,
    pushed_branch TEXT,
    latest_run_id TEXT NOT NULL,
    turns BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
);
CREATE INDEX agents_by_owner ON agents(owner, created_at, id);

-- owner_epoch: the fencing number of the thread that owns the run; every write of a run thread names it.
-- step: how many steps have begun; step_seq: the event of the newest beginning; last_*: the newest event.
CREATE TABLE runs(
    id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL,
    turn BIGINT NOT NULL,
    status TEXT NOT NULL,
    prompt TEXT NOT NULL,
    mode TEXT NOT NULL,
    model TEXT NOT NULL,
    request_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    updated_at BIGINT NOT NULL,
    ended_at BIGINT,
    result TEXT,
    error_code TEXT,
    error_message TEXT,
    step BIGINT NOT NULL,
    session_info TEXT,
    step_seq BIGINT NOT NULL,
    input_tokens BIGINT NOT NULL,
    output_tokens BIGINT NOT NULL,
    cache_read_tokens BIGINT NOT NULL,
    cache_write_tokens BIGINT NOT NULL,
    owner_epoch BIGINT NOT NULL,
    last_seq BIGINT NOT NULL,
    last_ms BIGINT NOT NULL,
    last_n BIGINT NOT NULL
);
CREATE INDEX runs_by_agent ON runs(agent_id, turn);
CREATE UNIQUE INDEX runs_active ON runs(agent_id) WHERE status IN ('CREATING', 'RUNNING');
CREATE INDEX runs_to_forget ON runs(ended_at, id) WHERE last_seq > 0;

CREATE TABLE steps(
    run_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    text TEXT NOT NULL,
    calls BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY(run_id, step)
);

-- kind: tool, or open and publish of the session. incarnation: the worker process the call was written down for.
-- detail: what the conversation keeps of the result.
CREATE TABLE tool_calls(
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    idx BIGINT NOT NULL,
    kind TEXT NOT NULL,
    name TEXT NOT NULL,
    args TEXT NOT NULL,
    state TEXT NOT NULL,
    incarnation TEXT,
    outcome TEXT,
    result TEXT,
    model_text TEXT,
    detail TEXT,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
);
CREATE INDEX tool_calls_by_run ON tool_calls(run_id, step, idx);

-- The log of a run; the public id is <id_ms>-<id_n>. twin: the interaction_update that shares the id.
CREATE TABLE events(
    run_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    id_ms BIGINT NOT NULL,
    id_n BIGINT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    twin TEXT,
    PRIMARY KEY(run_id, seq)
);

-- Fleet: workers, queue, claims.

CREATE TABLE pools(
    team_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    repo TEXT NOT NULL,
    repo_host TEXT NOT NULL,
    repo_name TEXT NOT NULL,
    first_seen_at BIGINT NOT NULL,
    last_seen_at BIGINT NOT NULL,
    PRIMARY KEY(team_id, name, repo, repo_host)
);

-- Live connections, rebuilt by registration after a restart.
CREATE TABLE workers(
    team_id BIGINT NOT NULL,
    id TEXT NOT NULL,
    link_epoch BIGINT NOT NULL,
    name TEXT NOT NULL,
    pool TEXT NOT NULL,
    key_id TEXT NOT NULL,
    service_account_id TEXT NOT NULL,
    workspace_root TEXT NOT NULL,
    busy INTEGER NOT NULL,
    draining INTEGER NOT NULL,
    connected_at BIGINT NOT NULL,
    idle_since BIGINT NOT NULL,
    PRIMARY KEY(team_id, id)
);

CREATE TABLE worker_epochs(
    team_id BIGINT NOT NULL,
    worker_id TEXT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY(team_id, worker_id)
);

-- What requests are matched with: one row for each repository a worker serves, or one with repo ''. state: 0 busy, 1 free,
-- 2 held by an idle claim.
CREATE TABLE worker_slots(
    team_id BIGINT NOT NULL,
    pool TEXT NOT NULL,
    repo TEXT NOT NULL,
    repo_host TEXT NOT NULL,
    worker_id TEXT NOT NULL,
    state INTEGER NOT NULL,
    idle_since BIGINT NOT NULL,
    PRIMARY KEY(team_id, worker_id, repo, repo_host)
);
CREATE INDEX worker_slots_match ON worker_slots(team_id, pool, repo, state, idle_since);

-- A turn that needs a worker; exists while its run is not terminal. state: queued, claimed (bound to a worker, not RUNNING
-- yet), serving.
CREATE TABLE requests(
    agent_id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    team_id BIGINT NOT NULL,
    pool TEXT NOT NULL,
    repo TEXT NOT NULL,
    repo_host TEXT NOT NULL,
    state TEXT NOT NULL,
    worker_id TEXT,
    queued_at BIGINT NOT NULL,
    attempts BIGINT NOT NULL
);
CREATE INDEX requests_match ON requests(team_id, pool, repo, state, queued_at, agent_id);
CREATE INDEX requests_by_age ON requests(state, queued_at);

-- An agent keeps its worker between turns. idle_since is set while no run is active, lost_at while the worker is away.
CREATE TABLE claims(
    agent_id TEXT PRIMARY KEY,
    team_id BIGINT NOT NULL,
    worker_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    idle_since BIGINT,
    lost_at BIGINT
);
CREATE UNIQUE INDEX claims_by_worker ON claims(team_id, worker_id);
CREATE INDEX claims_lost ON claims(lost_at);

-- Api: first answers, kept for a day.

CREATE TABLE idempotency(
    principal TEXT NOT NULL,
    endpoint TEXT NOT NULL,
    key TEXT NOT NULL,
    body_hash TEXT NOT NULL,
    status BIGINT NOT NULL,
    response TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY(principal, endpoint, key)
);
CREATE INDEX idempotency_by_age ON idempotency(created_at);
INSERT INTO teams(id, name, created_at) VALUES(1, 'default', 0);
