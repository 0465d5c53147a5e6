-- Whether a worker can work: unfit_code '' is fit. fitness_n counts what it said of itself on its present connection.
-- worker_slots.state 3: unfit, whatever its claim is.
ALTER TABLE workers ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN unfit_code TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN unfit_reason TEXT NOT NULL DEFAULT '';
ALTER TABLE workers ADD COLUMN fitness_n BIGINT NOT NULL DEFAULT 0;

-- A worker id is its account's that used it first ('': from before this column, the next one takes it). name, host: as it
-- said last; a message may be about a worker that is away.
ALTER TABLE worker_epochs ADD COLUMN account TEXT NOT NULL DEFAULT '';
ALTER TABLE worker_epochs ADD COLUMN name TEXT NOT NULL DEFAULT '';
ALTER TABLE worker_epochs ADD COLUMN host TEXT NOT NULL DEFAULT '';
ALTER TABLE worker_epochs ADD COLUMN first_seen_at BIGINT NOT NULL DEFAULT 0;
UPDATE worker_epochs SET account = COALESCE((SELECT w.service_account_id FROM workers w WHERE w.team_id = worker_epochs.team_id
    AND w.id = worker_epochs.worker_id), '');
CREATE INDEX worker_epochs_by_account ON worker_epochs(account, first_seen_at);
-- The account that made the row, for bounds on what one may fill.
ALTER TABLE pools ADD COLUMN account TEXT NOT NULL DEFAULT '';
CREATE INDEX pools_by_account ON pools(account);
ALTER TABLE tool_sets ADD COLUMN account TEXT NOT NULL DEFAULT '';
CREATE INDEX tool_sets_by_account ON tool_sets(account);

-- Workers that could not open the session of a run, for reasons of theirs.
CREATE TABLE run_attempts(
    run_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    worker_id TEXT NOT NULL,
    worker_name TEXT NOT NULL,
    host TEXT NOT NULL,
    code TEXT NOT NULL,
    message TEXT NOT NULL,
    at BIGINT NOT NULL,
    PRIMARY KEY(run_id, seq)
) /* clustered */;
-- open_attempts: how many rows of run_attempts there are. opening_at: since when its worker opens the session; opening: what
-- the worker says that it does, since opening_said_at.
ALTER TABLE requests ADD COLUMN open_attempts BIGINT NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN opening_at BIGINT;
ALTER TABLE requests ADD COLUMN opening TEXT;
ALTER TABLE requests ADD COLUMN opening_said_at BIGINT;
CREATE INDEX requests_tried ON requests(agent_id) WHERE open_attempts > 0;

-- Whose session it was (NULL: from before this column), as it was called then. JSON: what the worker said at the end.
ALTER TABLE run_sessions ADD COLUMN worker_id TEXT;
ALTER TABLE run_sessions ADD COLUMN worker_name TEXT;
ALTER TABLE run_sessions ADD COLUMN worker_host TEXT;
ALTER TABLE run_sessions ADD COLUMN resources TEXT;
ALTER TABLE run_sessions ADD COLUMN publication TEXT;
-- JSON. kept_work: what is on a worker and not on the remote; pushed_branches: all that was pushed, if more than one was.
ALTER TABLE agents ADD COLUMN kept_work TEXT;
ALTER TABLE agents ADD COLUMN pushed_branches TEXT;
