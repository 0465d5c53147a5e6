-- Why a step of the model ended (done, length, refusal) and what its provider wants to find again in the conversation.
ALTER TABLE steps ADD COLUMN stop TEXT NOT NULL DEFAULT 'done';
ALTER TABLE steps ADD COLUMN native TEXT;

-- What is wrong with a call that is told back to the model instead of being performed.
ALTER TABLE tool_calls ADD COLUMN fault TEXT;

-- Images of a prompt; data is base64.
CREATE TABLE run_images(
    run_id TEXT NOT NULL,
    idx BIGINT NOT NULL,
    mime_type TEXT NOT NULL,
    data TEXT NOT NULL,
    PRIMARY KEY(run_id, idx)
);

-- What of a long conversation the model is shown; the newest row of an agent holds. Positions count the messages of the
-- whole conversation: those before `summarised` are replaced by the summary, results before `shortened` are cut to
-- result_max bytes. step: the one of that run that it was made for.
CREATE TABLE compactions(
    agent_id TEXT NOT NULL,
    seq BIGINT NOT NULL,
    run_id TEXT NOT NULL,
    step BIGINT NOT NULL,
    summarised BIGINT NOT NULL,
    summary TEXT,
    shortened BIGINT NOT NULL,
    result_max BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    PRIMARY KEY(agent_id, seq)
);

-- Descriptions of tools, each text once: what the worker of a run said it has. Kept while a run or a connected worker
-- names it.
CREATE TABLE tool_sets(
    hash TEXT PRIMARY KEY,
    tools TEXT NOT NULL,
    last_used_at BIGINT NOT NULL
);
ALTER TABLE runs ADD COLUMN tool_set TEXT;
CREATE INDEX runs_by_tool_set ON runs(tool_set) WHERE tool_set IS NOT NULL;
ALTER TABLE workers ADD COLUMN tool_set TEXT;

-- What is large and changes rarely, apart from the row that every step changes.
CREATE TABLE run_texts(
    run_id TEXT PRIMARY KEY,
    prompt TEXT NOT NULL,
    session_info TEXT
);
INSERT INTO run_texts(run_id, prompt, session_info) SELECT id, prompt, session_info FROM runs;
ALTER TABLE runs DROP COLUMN prompt;
ALTER TABLE runs DROP COLUMN session_info;

-- Branches are given once.
CREATE INDEX agents_by_branch ON agents(branch);
