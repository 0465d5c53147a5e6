-- Hooks of a team: one text {"hooks", "files"} as an administrator gave it, known to workers by its hash.
CREATE TABLE team_hooks(
    team_id BIGINT PRIMARY KEY,
    hash TEXT NOT NULL,
    content TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);

-- What hooks had a loop go on with: messages of the user that stand before step `step`.
CREATE TABLE hook_messages(
    loop_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    text TEXT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY(loop_id, step)
) /* clustered */;
