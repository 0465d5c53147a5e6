-- Pull requests of agents: those that they are to open or have opened, and those that they were given to work on.
-- run_id: the run that wants the newest state of it, forge: its name in the settings, repo: "owner/name", base: '' is the
-- default branch. body_sent: SHA-256 of what we wrote there last; a body that somebody changed is left alone.
-- state: wanted, open, none (there was nothing to merge), failed (error says why), given.
CREATE TABLE pulls(
    id TEXT PRIMARY KEY,
    agent_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    forge TEXT NOT NULL,
    repo TEXT NOT NULL,
    head TEXT NOT NULL,
    base TEXT NOT NULL,
    head_commit TEXT NOT NULL,
    title TEXT NOT NULL,
    body TEXT NOT NULL,
    body_sent TEXT,
    reviewer TEXT,
    draft INTEGER NOT NULL,
    state TEXT NOT NULL,
    number BIGINT,
    url TEXT,
    error TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL
) /* clustered */;
CREATE UNIQUE INDEX pulls_by_head ON pulls(agent_id, forge, repo, head);
CREATE INDEX pulls_by_url ON pulls(url) WHERE url IS NOT NULL;
-- pull_url, pull_head: the newest one of the agent and its branch, for all that shows agents.
ALTER TABLE agents ADD COLUMN auto_create_pr INTEGER NOT NULL DEFAULT 0;
ALTER TABLE agents ADD COLUMN pull_url TEXT;
ALTER TABLE agents ADD COLUMN pull_head TEXT;
-- Accounts of other services that belong to people here. surface: github, gitlab, gitea, slack, linear; place: the host of a forge,
-- the id of a workspace or an organisation; account: the id there, which a person cannot change; login: what people call it.
CREATE TABLE accounts(
    surface TEXT NOT NULL,
    place TEXT NOT NULL,
    account TEXT NOT NULL,
    login TEXT NOT NULL,
    team_id BIGINT NOT NULL,
    user_id BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY(surface, place, account)
) /* clustered */;
CREATE INDEX accounts_by_user ON accounts(user_id, surface, place);
