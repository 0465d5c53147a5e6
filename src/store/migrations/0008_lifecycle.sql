-- Agents may be put away (ARCHIVED) and deleted (DELETED: hidden at once; what it had is removed at leisure). An id that was
-- used once is never free again.
CREATE TABLE deleted_agents(
    id TEXT PRIMARY KEY,
    deleted_at BIGINT NOT NULL
) /* clustered */;
CREATE INDEX agents_deleted ON agents(id) WHERE status = 'DELETED';
DROP INDEX agents_by_age;
CREATE INDEX agents_by_age ON agents(kept, updated_at, id) WHERE status IN ('IDLE', 'ARCHIVED');
