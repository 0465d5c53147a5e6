-- Whom the OpenID provider means. key_id: a key that was made for the sessions of this person and that nobody knows.
CREATE TABLE identities(
    issuer TEXT NOT NULL,
    subject TEXT NOT NULL,
    user_id BIGINT NOT NULL,
    key_id TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY(issuer, subject)
) /* clustered */;
CREATE UNIQUE INDEX identities_of_user ON identities(user_id, issuer);
-- How the session began: 'oidc', or ''.
ALTER TABLE browser_sessions ADD COLUMN via TEXT NOT NULL DEFAULT '';
-- users.role: member, auditor, admin or owner. The first admin is the owner.
UPDATE users SET role = 'owner' WHERE id = (SELECT MIN(u.id) FROM users u WHERE u.role = 'admin');

-- What the queue and the pools looked like, a row for each pool and interval [at, at + span_ms). The row of pool '' is always
-- written, also when there is nothing: where it is not, no server ran. samples: how often was looked; queued, workers, busy:
-- sums over the samples. waits: JSON, how many of the runs that got a worker had waited about how long (history_rows.h).
-- counted_to: until when those were counted.
CREATE TABLE fleet_samples(
    team_id BIGINT NOT NULL,
    at BIGINT NOT NULL,
    pool TEXT NOT NULL,
    span_ms BIGINT NOT NULL,
    samples BIGINT NOT NULL,
    queued BIGINT NOT NULL,
    queued_max BIGINT NOT NULL,
    oldest_ms BIGINT NOT NULL,
    workers BIGINT NOT NULL,
    busy BIGINT NOT NULL,
    waits TEXT NOT NULL,
    counted_to BIGINT NOT NULL,
    PRIMARY KEY(team_id, at, pool)
) /* clustered */;
CREATE INDEX fleet_samples_by_age ON fleet_samples(at);

-- All agents of a team, newest first.
CREATE INDEX agents_of_team ON agents(team_id, created_at, id);

-- What the programs of its sessions run in, as the worker says; '' if it does not.
ALTER TABLE workers ADD COLUMN isolation TEXT NOT NULL DEFAULT '';
