-- Automations (server/automations): agents that begin by themselves. owner: as of agents. launch: JSON, what the body of POST /v1/agents has
-- besides prompt and name. next_at: when the schedule's next run is due; NULL: it has none, or is disabled. secret: of its webhook, sealed;
-- old_secret: the one before, which is taken until old_until. timestamped: its events must say when they were signed.
CREATE TABLE automations(
    id TEXT PRIMARY KEY,
    team_id BIGINT NOT NULL,
    owner TEXT NOT NULL,
    name TEXT NOT NULL,
    prompt TEXT NOT NULL,
    launch TEXT NOT NULL,
    concurrency TEXT NOT NULL,
    enabled INTEGER NOT NULL,
    cron TEXT,
    time_zone TEXT,
    missed TEXT,
    next_at BIGINT,
    secret TEXT,
    old_secret TEXT,
    old_until BIGINT NOT NULL DEFAULT 0,
    timestamped INTEGER NOT NULL DEFAULT 1,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) /* clustered */;
CREATE INDEX automations_by_owner ON automations(owner, created_at, id);
CREATE INDEX automations_due ON automations(next_at) WHERE next_at IS NOT NULL;
-- What became of each of their times. tick: what there is once of it: the moment by the schedule, the delivery of a webhook, a request. signature:
-- of the delivery, which comes once, too. cause: schedule, webhook, manual. state: new, queued, started, skipped, missed, failed (reason says why).
-- prompt: NULL: the automation's own.
CREATE TABLE automation_runs(
    id TEXT PRIMARY KEY,
    automation_id TEXT NOT NULL,
    tick TEXT NOT NULL,
    signature TEXT,
    cause TEXT NOT NULL,
    state TEXT NOT NULL,
    reason TEXT,
    prompt TEXT,
    agent_id TEXT,
    at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
) /* clustered */;
CREATE UNIQUE INDEX automation_runs_by_tick ON automation_runs(automation_id, tick);
CREATE UNIQUE INDEX automation_runs_by_signature ON automation_runs(automation_id, signature) WHERE signature IS NOT NULL;
CREATE INDEX automation_runs_by_age ON automation_runs(automation_id, created_at, id);
CREATE INDEX automation_runs_queued ON automation_runs(automation_id, created_at) WHERE state = 'queued';
CREATE INDEX automation_runs_to_forget ON automation_runs(created_at);
CREATE INDEX automation_runs_started ON automation_runs(automation_id, ended_at) WHERE state = 'started';
-- Addresses that are told when a run of any agent of the team has ended. events: with spaces between them. base_url: of the links to agents.
-- Deliveries are rows of the outbox, of the kind 'team-webhook', their subject is the webhook.
CREATE TABLE team_webhooks(
    id TEXT PRIMARY KEY,
    team_id BIGINT NOT NULL,
    name TEXT NOT NULL,
    url TEXT NOT NULL,
    secret TEXT NOT NULL,
    events TEXT NOT NULL,
    base_url TEXT NOT NULL,
    created_by TEXT NOT NULL,
    created_at BIGINT NOT NULL
) /* clustered */;
CREATE INDEX team_webhooks_by_team ON team_webhooks(team_id, created_at);
CREATE INDEX outbox_deliveries ON outbox(subject, created_at, id) WHERE kind = 'team-webhook';
