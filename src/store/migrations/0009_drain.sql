-- incarnation: the process that has the id. drained: that process was told to go when its runs are over, also when it comes
-- back after its connection was lost; another process begins anew.
ALTER TABLE worker_epochs ADD COLUMN incarnation BIGINT NOT NULL DEFAULT 0;
ALTER TABLE worker_epochs ADD COLUMN drained INTEGER NOT NULL DEFAULT 0;
