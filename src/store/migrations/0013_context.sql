-- What the prompt of a run names (skills, commands, rules), as the worker found it when the run began:
-- [{name, kind, path, text}]. It stands below the prompt in every later turn.
ALTER TABLE run_sessions ADD COLUMN named TEXT;

-- Rules that a team's administrators keep: a list [{name, text, glob, enforced}].
CREATE TABLE team_rules(
    team_id BIGINT PRIMARY KEY,
    content TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);
