-- Subagents that work behind their run: the loop of each, with the arguments it was started with. state: running or
-- done; told: its report has come to the run's own loop.
CREATE TABLE background_loops(
    loop_id TEXT PRIMARY KEY,
    call_id TEXT NOT NULL,
    run_id TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    args TEXT NOT NULL,
    state TEXT NOT NULL,
    outcome TEXT,
    text TEXT,
    told BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    ended_at BIGINT
) /* clustered */;
CREATE INDEX background_loops_by_run ON background_loops(run_id);
CREATE INDEX background_loops_by_conversation ON background_loops(conversation_id);
-- Such reports are messages of the same kind as those of hooks: hook or background.
ALTER TABLE hook_messages ADD COLUMN origin TEXT NOT NULL DEFAULT 'hook';
