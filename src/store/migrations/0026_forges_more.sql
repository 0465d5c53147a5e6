-- Addresses of artifacts that need no key, for the pull requests that show them (server/artifacts). token_hash: SHA-256 of what stands in the
-- address, by which it is found; token: the same sealed, so that a follow-up can say it again; '' once it is revoked. A row goes with its
-- generation; one that was revoked stays with the agent: that path gets none again.
CREATE TABLE public_artifacts(
    id TEXT PRIMARY KEY,
    token_hash TEXT NOT NULL,
    token TEXT NOT NULL,
    team_id BIGINT NOT NULL,
    agent_id TEXT NOT NULL,
    path TEXT NOT NULL,
    generation TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    revoked_at BIGINT
) /* clustered */;
CREATE UNIQUE INDEX public_artifacts_by_token ON public_artifacts(token_hash);
CREATE INDEX public_artifacts_of_agent ON public_artifacts(agent_id, path);
CREATE INDEX public_artifacts_of_generation ON public_artifacts(generation);
-- Of the policy. public_artifacts: 1: they are made. follow_ups: who may go on with agents of others: disabled, service_accounts, all.
ALTER TABLE teams ADD COLUMN public_artifacts INTEGER NOT NULL DEFAULT 0;
ALTER TABLE teams ADD COLUMN follow_ups TEXT NOT NULL DEFAULT 'disabled';
