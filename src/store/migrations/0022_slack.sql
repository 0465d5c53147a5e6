-- Pools that requests from a Slack workspace go to unless they say another one; channel '': the workspace's own.
CREATE TABLE slack_pools(
    team_id BIGINT NOT NULL,
    place TEXT NOT NULL,
    channel TEXT NOT NULL,
    pool TEXT NOT NULL,
    set_by BIGINT NOT NULL,
    set_at BIGINT NOT NULL,
    PRIMARY KEY(team_id, place, channel)
) /* clustered */;
