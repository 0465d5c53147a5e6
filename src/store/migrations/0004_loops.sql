-- A run is one prompt of an agent on one worker, with one log. A loop is one conversation with a model inside it: the
-- run's first loop has the run's id and goes on with the agent's conversation; a nested loop is started by a call of
-- another loop (parent_call_id) and has a conversation of its own. seq: the place of a loop in its conversation.
-- step: how many steps have begun; step_seq: the event of the newest beginning.
CREATE TABLE loops(
    id TEXT PRIMARY KEY,
    run_id TEXT NOT NULL,
    conversation_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    parent_call_id TEXT,
    model TEXT NOT NULL,
    mode TEXT NOT NULL,
    step BIGINT NOT NULL,
    step_seq BIGINT NOT NULL,
    created_at BIGINT NOT NULL
) /* clustered */;
CREATE UNIQUE INDEX loops_by_conversation ON loops(conversation_id, seq);
-- The nested ones; a run's first loop is found by its id. So creating a run writes a page less.
CREATE INDEX loops_by_run ON loops(run_id) WHERE parent_call_id IS NOT NULL;
CREATE UNIQUE INDEX loops_by_parent_call ON loops(parent_call_id) WHERE parent_call_id IS NOT NULL;
INSERT INTO loops(id, run_id, conversation_id, seq, parent_call_id, model, mode, step, step_seq, created_at)
    SELECT id, id, agent_id, turn, NULL, model, mode, step, step_seq, created_at FROM runs;

-- What is large and never changes, apart from the row that every step changes. system: what a nested loop is told
-- besides what all loops of the run are told.
CREATE TABLE loop_texts(
    loop_id TEXT PRIMARY KEY,
    prompt TEXT NOT NULL,
    system TEXT
) /* clustered */;
INSERT INTO loop_texts(loop_id, prompt) SELECT run_id, prompt FROM run_texts;
ALTER TABLE run_texts DROP COLUMN prompt;
DELETE FROM run_texts WHERE session_info IS NULL;
ALTER TABLE run_texts RENAME TO run_sessions;

ALTER TABLE runs DROP COLUMN model;
ALTER TABLE runs DROP COLUMN mode;
ALTER TABLE runs DROP COLUMN step;
ALTER TABLE runs DROP COLUMN step_seq;
-- The first run of an agent is number 1.
ALTER TABLE runs RENAME COLUMN turn TO number;
ALTER TABLE agents RENAME COLUMN turns TO run_count;

-- The ids are the same: so far each run had one loop.
ALTER TABLE steps RENAME COLUMN run_id TO loop_id;
ALTER TABLE tool_calls RENAME COLUMN run_id TO loop_id;
-- kind: as CallKind in proto/worker.proto, in small letters.
UPDATE tool_calls SET kind = 'open_session' WHERE kind = 'open';
UPDATE tool_calls SET kind = 'close_session' WHERE kind = 'close';
-- Where the call is performed: worker, control (the control plane itself), loop (a nested loop).
ALTER TABLE tool_calls ADD COLUMN executor TEXT NOT NULL DEFAULT 'worker';
ALTER TABLE compactions RENAME COLUMN agent_id TO conversation_id;
ALTER TABLE compactions RENAME COLUMN run_id TO loop_id;
ALTER TABLE run_images RENAME TO prompt_images;
ALTER TABLE prompt_images RENAME COLUMN run_id TO loop_id;

-- Events of a nested loop stand in the run's one log and name the call that started the loop.
ALTER TABLE events ADD COLUMN parent_call_id TEXT;

-- What is forgotten, and when (settings in [retention]). kept: 2 everything, 1 without images, 0 without its conversation.
ALTER TABLE agents ADD COLUMN kept BIGINT NOT NULL DEFAULT 2;
CREATE INDEX agents_by_age ON agents(kept, updated_at, id) WHERE status = 'IDLE';
ALTER TABLE worker_epochs ADD COLUMN seen_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX worker_epochs_by_age ON worker_epochs(seen_at);
