-- Of a worker its claims, whether it is a machine or not: the two partial indexes serve only statements that say which.
DROP INDEX claims_of_machine;
CREATE INDEX claims_of_worker ON claims(team_id, worker_id);
-- How many runs a user has at this moment; and, as before, what waits for a machine of theirs.
CREATE INDEX requests_of_user ON requests(team_id, user_id, state);
-- Whether any worker at all is free (1) or held by an idle claim (2).
CREATE INDEX worker_slots_free ON worker_slots(state) WHERE state IN (1, 2);
CREATE INDEX workers_by_pool ON workers(team_id, pool, connected_at);
-- Workers that came with a session token: they go when its claim ends.
CREATE INDEX workers_of_claim ON workers(team_id, id) WHERE only_agent <> '';
