-- What a team lets its runs do: whether they may be, and must be, on machines of its own.
ALTER TABLE teams ADD COLUMN allow_self_hosted INTEGER NOT NULL DEFAULT 1;
ALTER TABLE teams ADD COLUMN require_self_hosted INTEGER NOT NULL DEFAULT 1;
-- How many runs of one user may have a worker at once; 0: any number.
ALTER TABLE teams ADD COLUMN max_active_per_user BIGINT NOT NULL DEFAULT 0;

-- Pairs "key=value" that the request wants of its worker, sorted, each once: a JSON array. machine: the personal machine that
-- was asked for by name ('': any of the owner's), NULL: a pool.
ALTER TABLE agents ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
ALTER TABLE agents ADD COLUMN machine TEXT;

-- A pool's row is for one repository or for any (repo ''). ready_timeout_s: how long a follow-up is held for a claimed worker
-- that is away; 0: not at all. deleted_at: hidden until a worker registers with it again. repo_url: as the last worker or the
-- last call gave it.
ALTER TABLE pools ADD COLUMN repo_url TEXT NOT NULL DEFAULT '';
ALTER TABLE pools ADD COLUMN ready_timeout_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE pools ADD COLUMN deleted_at BIGINT;

-- user_id: whose personal machine it is; 0 and personal 0: a pool worker. A personal machine has no pool ('') and takes up to
-- max_sessions agents at once; busy then counts them. labels: JSON array of pairs, as in agents. idle_release_s: after so long
-- without a run its process ends (0: never); keeps_claims: this was asked for, so an idle claim does not yield.
ALTER TABLE workers ADD COLUMN user_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN personal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN max_sessions BIGINT NOT NULL DEFAULT 1;
ALTER TABLE workers ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
ALTER TABLE workers ADD COLUMN idle_release_s BIGINT NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN keeps_claims INTEGER NOT NULL DEFAULT 0;
ALTER TABLE workers ADD COLUMN repo_url TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN repo_name TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN version TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN os TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN arch TEXT NOT NULL DEFAULT '';
-- The agent whose session token it registered with; '' : it may serve any.
ALTER TABLE workers ADD COLUMN only_agent TEXT NOT NULL DEFAULT '';
CREATE INDEX workers_by_user ON workers(team_id, user_id) WHERE personal = 1;
CREATE INDEX workers_by_time ON workers(team_id, connected_at, id);

-- n_labels: how many pairs the worker has; of several workers the one with the fewest is taken.
ALTER TABLE worker_slots ADD COLUMN n_labels BIGINT NOT NULL DEFAULT 0;
DROP INDEX worker_slots_match;
CREATE INDEX worker_slots_match ON worker_slots(team_id, pool, repo, state, n_labels, idle_since, worker_id);
-- The same by each pair of the worker, so that a request with labels is matched by index too.
CREATE TABLE slot_labels(
    team_id BIGINT NOT NULL,
    pool TEXT NOT NULL,
    repo TEXT NOT NULL,
    repo_host TEXT NOT NULL,
    worker_id TEXT NOT NULL,
    pair TEXT NOT NULL,
    state INTEGER NOT NULL,
    n_labels BIGINT NOT NULL,
    idle_since BIGINT NOT NULL,
    PRIMARY KEY(team_id, worker_id, repo, repo_host, pair)
) /* clustered */;
CREATE INDEX slot_labels_match ON slot_labels(team_id, pool, repo, pair, state, n_labels, idle_since, worker_id);

-- state, beside the former ones: offline, a follow-up that is held until offline_until for its claimed worker to come back.
-- claimed with connect_by: reserved for a worker that has not connected yet. user_id: who asks (0: a service account).
-- machine: as in agents, for requests that no pool may take; the pool is '' then. labels: as in agents; label: the first
-- of them, or ''. starts: how often a worker that it was reserved for did not come.
ALTER TABLE requests ADD COLUMN user_id BIGINT NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN machine TEXT;
ALTER TABLE requests ADD COLUMN labels TEXT NOT NULL DEFAULT '[]';
ALTER TABLE requests ADD COLUMN label TEXT NOT NULL DEFAULT '';
ALTER TABLE requests ADD COLUMN offline_until BIGINT;
ALTER TABLE requests ADD COLUMN starts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN mismatches BIGINT NOT NULL DEFAULT 0;
-- The pairs of a request that has more than one.
CREATE TABLE request_labels(
    agent_id TEXT NOT NULL,
    pair TEXT NOT NULL,
    PRIMARY KEY(agent_id, pair)
) /* clustered */;
DROP INDEX requests_match;
CREATE INDEX requests_match ON requests(team_id, pool, repo, state, label, queued_at, agent_id);
CREATE INDEX requests_pending ON requests(team_id, queued_at, agent_id) WHERE state IN ('queued', 'offline');
CREATE INDEX requests_by_machine ON requests(team_id, user_id, state) WHERE machine IS NOT NULL;
CREATE INDEX requests_failed ON requests(agent_id) WHERE starts >= 3 OR mismatches >= 3;
CREATE INDEX requests_offline ON requests(offline_until) WHERE offline_until IS NOT NULL;

-- connect_by: until then the worker that it was reserved for must have connected. A personal machine has several claims.
-- pool, repo: the pool's row that the agent was routed by.
ALTER TABLE claims ADD COLUMN connect_by BIGINT;
ALTER TABLE claims ADD COLUMN personal INTEGER NOT NULL DEFAULT 0;
ALTER TABLE claims ADD COLUMN pool TEXT NOT NULL DEFAULT '';
ALTER TABLE claims ADD COLUMN repo TEXT NOT NULL DEFAULT '';
DROP INDEX claims_by_worker;
CREATE UNIQUE INDEX claims_by_worker ON claims(team_id, worker_id) WHERE personal = 0;
CREATE INDEX claims_of_machine ON claims(team_id, worker_id) WHERE personal = 1;
CREATE INDEX claims_to_connect ON claims(connect_by) WHERE connect_by IS NOT NULL;

-- What happened to the queue, for those who watch it: one row a transition of a pool request, written in the transaction that
-- is the transition. kind: created, claimed, claimed_offline, expired. seq counts within the team.
CREATE TABLE queue_events(
    team_id BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    agent_id TEXT NOT NULL,
    pool TEXT NOT NULL,
    repo TEXT NOT NULL,
    repo_host TEXT NOT NULL,
    worker_id TEXT,
    offline_until BIGINT,
    PRIMARY KEY(team_id, seq)
) /* clustered */;
CREATE INDEX queue_events_by_age ON queue_events(at);

-- Keys of this installation: what tokens are signed with. Made at the first start.
CREATE TABLE installation_keys(
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    created_at BIGINT NOT NULL
);
