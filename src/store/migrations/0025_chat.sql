-- Tokens of services that are renewed (Linear: place '') or that each workspace has its own of (Slack). sealed: JSON that the room
-- server/triggers reads; version: counts what was kept; refreshing_until: who renews it has until then.
CREATE TABLE service_tokens(
    service TEXT NOT NULL,
    place TEXT NOT NULL,
    name TEXT NOT NULL,
    sealed TEXT NOT NULL,
    version BIGINT NOT NULL,
    refreshing_until BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    PRIMARY KEY(service, place)
) /* clustered */;
-- Comments of Linear that two events may tell of, and which one is worked off: session/ or comment/ and the id in the inbox.
CREATE TABLE linear_comments(
    place TEXT NOT NULL,
    comment TEXT NOT NULL,
    taken_by TEXT NOT NULL,
    taken_at BIGINT NOT NULL,
    PRIMARY KEY(place, comment)
) /* clustered */;
CREATE INDEX linear_comments_by_age ON linear_comments(taken_at);
-- What holds in Slack where a request says nothing. holder: '' the workspace, a channel's id, or 'user:7'; kind: repo, machine, summaries.
CREATE TABLE slack_defaults(
    team_id BIGINT NOT NULL,
    place TEXT NOT NULL,
    holder TEXT NOT NULL,
    kind TEXT NOT NULL,
    value TEXT NOT NULL,
    set_by BIGINT NOT NULL,
    set_at BIGINT NOT NULL,
    PRIMARY KEY(team_id, place, holder, kind)
) /* clustered */;
